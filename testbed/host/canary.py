"""The canary: a guest of a few hundred bytes that shows whether an accelerator runs guests at all.

Its QEMU is started as a machine's is, contained and all: what keeps a machine from KVM must keep the canary from it.

It prints, takes timer ticks and ends QEMU (`guest-images/canary.S`). Nothing less proves KVM: its device may open,
an empty machine start and the firmware run, and yet the first interrupt never come.
"""

from __future__ import annotations

import hashlib
import shlex
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from testbed.host.cache import cache_folder
from testbed.host.compiler import compile_c
from testbed.host.containment import SANDBOX
from testbed.host.family import run_family
from testbed.host.host import contained_child
from testbed.model.catalog import shipped_folder
from testbed.model.errors import BedError

if TYPE_CHECKING:
    from testbed.host.qemu import Qemu

#: what it prints on its way, in this order
UP, TICKS = "canary: up", "canary: ticks"
#: isa-debug-exit makes 2n+1 of the 0x2a that it writes
EXIT_STATUS = 85

_FLAGS = ("-m32", "-nostdlib", "-static", "-no-pie", "-Wl,-Ttext=0x100000", "-Wl,--build-id=none")
#: the lines with which QEMU and KVM comment on CPU features; no cause of anything
_REMARK = "warning: "


@dataclass(frozen=True, kw_only=True)
class CanaryRun:
    """What one canary did."""

    seconds: float
    status: int | None  #: QEMU's exit status, minus the signal that ended it; None: killed at the limit
    printed: str
    words: str  #: QEMU's own first words that are more than a remark

    @property
    def alive(self) -> bool:
        """Tell whether it printed, took its ticks and ended QEMU."""
        return self.status == EXIT_STATUS and UP in self.printed and TICKS in self.printed

    def __str__(self) -> str:
        within = f"within {self.seconds:.1f} s"
        if self.alive:
            return f"a guest printed, took timer ticks and exited {within}"
        until = within if self.status is None else f"before QEMU ended with {_ended(self.status)}"
        return f"a guest {self._lacks} {until}" + (f": {self.words}" if self.words else "")

    @property
    def _lacks(self) -> str:
        if TICKS in self.printed:
            return "did not exit"
        return "took no timer tick" if UP in self.printed else "printed nothing"


def build_canary() -> Path:
    """Return the canary, assembled into the cache; raise BedError if that cannot be done."""
    source = shipped_folder("guest-images") / "canary.S"
    try:
        path = cache_folder("canary") / f"{canary_digest()[:16]}.elf"
        if not path.is_file():
            _assemble(source, path)
    except OSError as error:
        raise BedError(f"assembling {source.name}: {error}") from None
    return path


def canary_digest() -> str:
    """Return the sha256 of what the canary is made of."""
    source = shipped_folder("guest-images") / "canary.S"
    return hashlib.sha256(source.read_bytes() + shlex.join(_FLAGS).encode()).hexdigest()


def run_canary(qemu: Qemu, accel: str, cpu: str, *, image: Path, limit: float) -> CanaryRun:
    """Run a canary under an accelerator for at most `limit` wall seconds; nothing of it outlives this call."""
    started = time.monotonic()
    command, _ = contained_child(canary_argv(qemu, accel, cpu, image))
    try:
        done = run_family(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=limit)
    except subprocess.TimeoutExpired as late:  # the process is killed and reaped
        return _read(qemu, time.monotonic() - started, None, late.stdout, late.stderr)
    return _read(qemu, time.monotonic() - started, done.returncode, done.stdout, done.stderr)


def canary_argv(qemu: Qemu, accel: str, cpu: str, image: PurePath) -> list[str]:
    """Return the command that runs a canary."""
    return [
        *qemu.command,
        *("-name", "testbed-canary"),
        *("-nodefaults", "-no-user-config"),
        *("-display", "none"),
        *(("-sandbox", SANDBOX) if qemu.sandbox else ()),
        *("-machine", "q35"),
        *("-accel", accel),
        *("-cpu", cpu),
        *("-m", "16"),
        "-no-reboot",  # a guest that falls over ends QEMU instead of starting again
        *("-serial", "stdio"),
        *("-device", "isa-debug-exit,iobase=0xf4,iosize=4"),
        *("-kernel", str(image)),
    ]


def _assemble(source: Path, target: Path) -> None:
    """Assemble aside and move into place, so that nobody starts half a canary."""
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        draft = Path(scratch) / target.name
        compile_c([source], draft, flags=_FLAGS, doing=f"assembling {source.name}")
        draft.replace(target)


def _read(qemu: Qemu, seconds: float, status: int | None, stdout: bytes | None, stderr: bytes | None) -> CanaryRun:
    return CanaryRun(
        seconds=seconds,
        status=status,
        printed=(stdout or b"").decode(errors="replace"),
        words=first_words((stderr or b"").decode(errors="replace"), program=qemu.path.name),
    )


def first_words(stderr: str, *, program: str) -> str:
    """Return the first line that is more than a remark, without the program's name before it."""
    lines = (line.strip().removeprefix(f"{program}: ") for line in stderr.splitlines())
    return next((line.removeprefix("error: ") for line in lines if line and not line.startswith(_REMARK)), "")


def _ended(status: int) -> str:
    if status >= 0:
        return f"status {status}"
    return signal.Signals(-status).name if -status in set(signal.Signals) else f"signal {-status}"
