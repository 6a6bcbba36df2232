"""Accelerators: what runs the guest's instructions, and why that one was chosen."""

from __future__ import annotations

import os
from dataclasses import dataclass

from testbed.model.errors import InputError

_DEVICE = "/dev/kvm"


@dataclass(frozen=True, kw_only=True)
class Accel:
    """A chosen accelerator."""

    name: str  #: `kvm` or `tcg`
    reason: str  #: why it was chosen

    def cpu(self, asked: str) -> str:
        """Return the `-cpu` value: what was asked, or a model that starts fast here."""
        if asked != "auto":
            return asked
        return "host" if self.name == "kvm" else "qemu64"


def choose_accel(asked: str = "auto") -> Accel:
    """Return the accelerator to use; raise InputError for `kvm` where it cannot be opened."""
    if asked == "kvm":
        _check_kvm()
        return Accel(name="kvm", reason="asked for")
    if asked in ("tcg", "auto"):
        why = "asked for" if asked == "tcg" else "runs everywhere; --accel kvm is faster where KVM works"
        return Accel(name="tcg", reason=why)
    raise InputError(f"accelerator {asked!r} does not exist", hint="there are: auto, kvm, tcg")


def _check_kvm() -> None:
    try:
        os.close(os.open(_DEVICE, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        raise InputError(
            f"accelerator kvm: opening {_DEVICE}: {error.strerror}",
            hint="join the group that owns it (sudo usermod -aG kvm $USER, log in again), or use --accel tcg",
        ) from None
