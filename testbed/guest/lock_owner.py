"""Who likely holds the lock that a blocked process waits for.

Linux 6.16 and later say it themselves once a process has been blocked for two minutes (kernel/hung_task.c,
CONFIG_DETECT_HUNG_TASK_BLOCKER). Elsewhere it is inferred: of the locks of the PCI core it is known which functions
hold them (drivers/pci/remove.c, pci-sysfs.c, bus.c, hotplug/*; drivers/base/dd.c), and every stack can be read.
A device's own lock is one of many, so whoever is said to hold it may hold another device's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from testbed.guest.task import standing_tasks

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from testbed.guest.shell import Shell
    from testbed.model.errors import Standing
    from testbed.model.kernel_log import LogRecord

#: where a process waits for a lock; a stack from /proc mostly leaves these out, with all of the scheduler
_WAITING = re.compile(r"mutex_lock|rwsem_down|down_(read|write)|__down|schedule|^device_lock$|^pci_lock_rescan_remove$")
_LOCKING = re.compile(r"lock|down")
_SAID = re.compile(
    r"task .{1,64}:(?P<waiting>[0-9]{1,10}) .{0,64}blocked on an? (?P<lock>\S{1,64}) "
    r"likely owned by task .{1,64}:(?P<owner>[0-9]{1,10})"
)


@dataclass(frozen=True, kw_only=True)
class _Lock:
    name: str
    #: functions that take it, and hold it while what they call runs
    holders: re.Pattern[str]


_LOCKS = (
    _Lock(
        name="pci_rescan_remove_lock",
        holders=re.compile(
            r"(bus_|dev_)?rescan_store$|pci_stop_and_remove_bus_device_locked|(pciehp|shpchp|cpci)_(un)?configure_device"
            r"|acpiphp_(check_bridge|disable_and_eject_slot|disable_slot|hotplug_notify)|acpi_pci_root_(add|remove)"
            r"|hotplug_event"
        ),
    ),
    _Lock(name="pci_bus_sem", holders=re.compile(r"pci_walk_bus")),
    _Lock(
        name="a device's lock",
        holders=re.compile(
            r"device_release_driver_internal|__driver_attach|__device_attach$|device_driver_(at|de)tach"
            r"|pci_dev_lock|pci_(try_)?reset_function$|report_(error_detected|mmio_enabled|slot_reset|resume)"
            r"|device_(reprobe|shutdown|suspend|resume)$|unbind_store|bind_store|reset_store|sriov_numvfs_(show|store)"
        ),
    ),
)


@dataclass(frozen=True, kw_only=True)
class Owner:
    """The process that likely holds a lock."""

    pid: int
    lock: str
    why: str  #: the function it stands in, or that the kernel says so
    evidence: str  #: of the kernel's words; empty if it was inferred

    @property
    def words(self) -> str:
        """Say what it holds, and how that is known."""
        return f"likely holds {self.lock}, " + (self.why if self.evidence else f"inferred from its stack: {self.why}")


async def find_owner(shell: Shell, pid: int, stack: Sequence[str]) -> Standing | None:
    """Return the process that likely holds the lock which a process waits for, with what it holds; None if unknown."""
    tasks = {number: task for number, task in (await standing_tasks(shell)).items() if number != pid}
    owner = named_owner(pid, shell.log.records) or inferred_owner(stack, tasks)
    if owner is None or owner.pid not in tasks:
        return None
    task = tasks[owner.pid]
    return replace(task, holds=owner.words, evidence=owner.evidence or task.evidence)


def named_owner(pid: int, records: Iterable[LogRecord]) -> Owner | None:
    """Return whom the kernel's latest words on a blocked process name as the owner; None if it said nothing."""
    for record in reversed(list(records)):
        said = _SAID.search(record.text)
        if said and int(said["waiting"]) == pid:
            return Owner(
                pid=int(said["owner"]), lock=f"the {said['lock']}", why="says the kernel", evidence=record.reference
            )
    return None


def inferred_owner(stack: Sequence[str], others: Mapping[int, Standing]) -> Owner | None:
    """Return which other process stands in a function that holds the lock a stack waits for; None if none does.

    One that waits for the same lock does not hold it.
    """
    lock = _wanted(stack)
    if lock is None:
        return None
    for pid, other in others.items():
        held = next((each for each in other.stack if lock.holders.search(each)), None)
        if held and _wanted(other.stack) is not lock:
            return Owner(pid=pid, lock=lock.name, why=held, evidence="")
    return None


def _wanted(stack: Sequence[str]) -> _Lock | None:
    """Return the lock that a process waits for; None if it waits for none, or for one that is not known.

    It waits where the innermost function is one that takes a lock: if it held that, it would stand in what that calls.
    """
    waiting = 0
    while waiting < len(stack) and _WAITING.search(stack[waiting]):
        waiting += 1
    if waiting == len(stack) or (waiting and not any(_LOCKING.search(each) for each in stack[:waiting])):
        return None
    return next((lock for lock in _LOCKS if lock.holders.search(stack[waiting])), None)
