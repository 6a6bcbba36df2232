"""Witness: one of the three that see a device come or go: QMP, QEMU's own device tree, the guest's sysfs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from testbed.model.outcome import Finding

if TYPE_CHECKING:
    from testbed.machine.launch import Machine

#: where QEMU's tree has the devices that have an id
_PERIPHERAL = {"path": "/machine/peripheral"}


@dataclass(frozen=True, kw_only=True)
class Witness:
    """What one of them saw of a device that was to go."""

    name: str
    expected: str
    seconds: float | None  #: guest seconds from the request until it saw the change; None if it saw none
    change: str  #: what it saw, or would have seen
    unchanged: str  #: what it saw instead
    evidence: str

    @property
    def finding(self) -> Finding:
        """Return it as a finding."""
        observed = self.unchanged if self.seconds is None else f"{self.change} after {self.seconds:.1f} s"
        return Finding(subject=self.name, expected=self.expected, observed=observed, evidence=self.evidence)


async def in_tree(machine: Machine, device_id: str) -> tuple[bool, str]:
    """Return whether QEMU's tree has the device, and where that is recorded."""
    children = await machine.qmp.execute("qom-list", _PERIPHERAL)
    return any(child["name"] == device_id for child in children), machine.qmp.last_reply


async def is_gone(machine: Machine, device_id: str) -> bool:
    """Return whether QEMU's tree no longer has the device, without a line in the journal."""
    children = await machine.qmp.execute_unlogged("qom-list", _PERIPHERAL)
    return all(child["name"] != device_id for child in children)


def leave_time(machine: Machine, unsettled: str, subject: str, seconds: float) -> None:
    """Let a reproduction wait in the guest as long as the bed did, and say how it ended."""
    waiting = f"n=0; while {unsettled} && [ $n -lt {round(seconds)} ]; do sleep 1; n=$((n+1)); done"
    there = unsettled.replace("[ ! -e", "[ -e")
    machine.journal.step(
        "guest",
        f'{waiting}; {there} && echo "{subject} is there after $n s" || echo "{subject} is gone after $n s"',
    )
