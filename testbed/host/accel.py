"""Accelerators: what runs the guest's instructions, and why that one was chosen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from testbed.host.kvm import FAST_CPU, prove_kvm
from testbed.model.catalog import unknown
from testbed.model.errors import InputError

if TYPE_CHECKING:
    from testbed.host.qemu import Qemu

CHOICES = ("auto", "kvm", "tcg")


@dataclass(frozen=True, kw_only=True)
class Accel:
    """A chosen accelerator."""

    name: str  #: `kvm` or `tcg`
    reason: str  #: why it was chosen

    def cpu(self, model: str) -> str:
        """Return the `-cpu` value: the one asked for, or a model that starts fast here."""
        return FAST_CPU[self.name] if model == "auto" else model

    def __str__(self) -> str:
        return f"{self.name} ({self.reason})"


def choose_accel(choice: str, qemu: Qemu) -> Accel:
    """Return the accelerator to use; `auto` is KVM where a guest of this QEMU was seen to run under it.

    Raises InputError for `kvm` where none does.
    """
    if choice not in CHOICES:
        raise unknown("accelerator", choice, CHOICES)
    if choice == "tcg":
        return Accel(name="tcg", reason="asked for")
    # who insists on it may just have fixed it
    proof = prove_kvm(qemu, retry=choice == "kvm")
    if proof.works:
        return Accel(name="kvm", reason=proof.why if choice == "auto" else f"asked for; {proof.why}")
    if choice == "kvm":
        raise InputError(f"accelerator kvm: {proof.why}", hint=proof.hint)
    return Accel(name="tcg", reason=f"KVM: {proof.why}")
