"""Who told whom of an error of a passed-through function, in order, from a trace of the host's kernel.

The root port interrupts, the kernel's AER driver asks each driver below it, vfio-pci signals the eventfd that QEMU gave
it, QEMU reads that, says so and stops the VM. Source: Linux drivers/pci/pcie/aer.c and err.c,
drivers/vfio/pci/vfio_pci_core.c; QEMU hw/vfio/pci.c.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from testbed.model.outcome import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from testbed.guest.tracing import FtraceLine

_VFIO = "vfio_pci_core_aer_err_detected"
#: what is to be recorded; a kernel has some of them
FUNCTIONS = (
    *("aer_irq", "aer_isr", "pcie_do_recovery"),
    *("igb_io_error_detected", "e1000_io_error_detected", _VFIO, "eventfd_signal"),
)
_QEMU = 'comm ~ "qemu-system*"'
EVENTS = {f"syscalls/sys_enter_{call}": _QEMU for call in ("read", "write", "sendmsg")}
_CALLS = {
    "aer_irq": "the root port interrupts",
    "aer_isr": "the kernel's AER driver reads the error",
    "pcie_do_recovery": "the AER driver begins the recovery",
    "igb_io_error_detected": "the AER driver tells igb",
    "e1000_io_error_detected": "the AER driver tells e1000e",
    _VFIO: "the AER driver tells vfio-pci",
}
_SIGNALLED = "vfio-pci signals the error eventfd"
#: what QEMU does afterwards, one after the other
_QEMU_STEPS = (
    ("sys_read(", "QEMU reads the eventfd"),
    ("sys_write(fd: 2,", "QEMU says so on stderr, and stops the VM"),
    ("sys_sendmsg(", "QEMU sends the event STOP"),
)


@dataclass(frozen=True, kw_only=True)
class ChainStep:
    """One of them told the next."""

    what: str
    line: FtraceLine


def error_chain(lines: Sequence[FtraceLine], qemu_pid: int) -> list[ChainStep]:
    """Return the steps that the trace shows, in order; QEMU's are those of its main thread, `qemu_pid`."""
    steps = []
    seen = set()
    for line in lines:
        what = _step(line)
        if what and what not in seen:
            seen.add(what)
            steps.append(ChainStep(what=what, line=line))
            if what == _SIGNALLED:
                break
    signalled = steps[-1].line if steps and steps[-1].what == _SIGNALLED else None
    return [*steps, *_reaction(lines, qemu_pid, signalled)] if signalled else steps


def missing_step(steps: Sequence[ChainStep], *, host_driver: bool) -> str:
    """Return the first step that a chain to a stopped VM lacks, or has in another order; empty if it is whole.

    `host_driver`: whether the host's igb drives the function with the error, and so is notified too.
    """
    own = ("igb_io_error_detected",) if host_driver else ()
    calls = ("aer_irq", "aer_isr", "pcie_do_recovery", *own, _VFIO)
    expected = [*(_CALLS[call] for call in calls), _SIGNALLED, *(what for _, what in _QEMU_STEPS)]
    chain = iter(step.what for step in steps)
    # what has been passed over cannot come later: that is the order
    return next((what for what in expected if what not in chain), "")


def _step(line: FtraceLine) -> str | None:
    function, caller = line.call or ("", "")
    if function == "eventfd_signal":
        return _SIGNALLED if caller == _VFIO else None
    return _CALLS.get(function)


def _reaction(lines: Sequence[FtraceLine], qemu_pid: int, signalled: FtraceLine) -> Iterator[ChainStep]:
    wanted = iter(_QEMU_STEPS)
    call, what = next(wanted)
    for line in lines:
        if line.number <= signalled.number or line.pid != qemu_pid or not line.text.startswith(call):
            continue
        yield ChainStep(what=what, line=line)
        call, what = next(wanted, ("", ""))
        if not call:
            return


def chain_findings(steps: list[ChainStep]) -> list[Finding]:
    """Return the steps as findings, with the milliseconds since the first."""
    return [
        Finding(
            subject=f"who told whom, {number}",
            expected=step.what,
            observed=f"+{(step.line.seconds - steps[0].line.seconds) * 1000:.2f} ms: {step.what}",
            evidence=step.line.evidence,
        )
        for number, step in enumerate(steps, start=1)
    ]
