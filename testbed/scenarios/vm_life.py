"""VmLife: whether the VM in a host runs and answers, and what it and its QEMU have said, at one moment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from testbed.model.errors import BedError
from testbed.model.outcome import Finding
from testbed.scenarios.passthrough_state import inside

if TYPE_CHECKING:
    from testbed.guest.guest import Guest

#: wall seconds in which a VM that lives answers
_ANSWER_SECONDS = 30.0
#: messages of the VM's kernel that a finding shows
_MOST_MESSAGES = 20


@dataclass(frozen=True, kw_only=True)
class VmLife:
    """What is seen of the VM at one moment."""

    status: str  #: QEMU's run state
    answers: bool
    findings: tuple[Finding, ...]

    @property
    def alive(self) -> bool:
        """Return whether it runs and answers."""
        return self.status == "running" and self.answers


async def look(vm: Guest, position: int, *, when: str = "") -> VmLife:
    """Look whether the VM runs and answers, and what its kernel has said since the message numbered `position`."""
    status = (await vm.machine.qmp.execute("query-status"))["status"]
    state = Finding(
        subject=f"VM's run state{when}", expected="running", observed=status, evidence=vm.machine.qmp.last_reply
    )
    answers, answer = False, "it is not running"
    if status == "running":
        try:
            result = await vm.shell.run("echo alive", patience=_ANSWER_SECONDS)
            answers, answer = result.status == 0, f"answered {result.text}"
            await vm.shell.catch_up()
        except BedError as error:
            answer = error.message
    shell = Finding(subject=f"VM's shell{when}", expected="answers", observed=answer, evidence="shell.jsonl")
    findings = (state, shell, *([] if when else [_kernel_words(vm, position), _qemu_words(vm)]))
    return VmLife(status=status, answers=answers, findings=tuple(map(inside, findings)))


def _kernel_words(vm: Guest, position: int) -> Finding:
    """Show what the VM's kernel said since the message numbered `position`, whatever it is of."""
    records = [record for record in vm.shell.log.records if record.sequence > position]
    messages = [record.text for record in records[:_MOST_MESSAGES]]
    more = [f"{len(records) - _MOST_MESSAGES} more"] if len(records) > _MOST_MESSAGES else []
    return Finding(
        subject="VM's kernel, since the error",
        expected="anything; shown as it is",
        observed="; ".join([*messages, *more]) or "nothing",
        evidence=records[0].reference if records else "kernel.log",
    )


def _qemu_words(vm: Guest) -> Finding:
    """Show what level 1's QEMU said."""
    log = vm.machine.rundir / "qemu.log"
    words = " ".join(log.read_text(errors="replace").split()) if log.exists() else ""
    return Finding(subject="level 1's QEMU", expected="nothing", observed=words or "nothing", evidence="qemu.log")
