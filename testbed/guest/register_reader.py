"""RegisterReader: a register of a BAR kept busy by a process that maps it, about a thousand reads a second."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.guest.load import BusyVerbs

if TYPE_CHECKING:
    from testbed.guest.guest import Guest

#: status of the verb where the kernel does not let it map the BAR
NOT_MAPPED = 2


async def start_reads(guest: Guest, path: str, *, offset: int, width: int) -> BusyVerbs:
    """Read a register through a BAR's file in sysfs."""
    guest.machine.journal.step(
        "say", f"the test bed's init reads {path} at {offset:#x} all the time, not repeated here"
    )
    return BusyVerbs([await guest.shell.start_verb("read-register", path, f"{offset:#x}", str(width))])
