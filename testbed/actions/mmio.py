"""Access device registers of a guest, by a user process, by its kernel, by ports and in configuration space.

The access is made by /bin/mmio-probe (guest-images/probe.c); every instruction of a process that can make one has an
address of its own, at which a model can hold it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.actions.access_place import PROGRAM
from testbed.actions.attempt import EACH_SECONDS, NO_STALL, patience, trying
from testbed.actions.probe_result import fault_name, read_timing
from testbed.actions.register import locate
from testbed.model.errors import BrokenError

if TYPE_CHECKING:
    from testbed.actions.attempt import Probed
    from testbed.actions.probe_result import Timing
    from testbed.actions.register import Access
    from testbed.guest.guest import Guest
    from testbed.model.pci import Bdf
    from testbed.model.stall import Stall

#: guest seconds an access may take
ACCESS_SECONDS = 2.0


async def enable(guest: Guest, address: Bdf) -> None:
    """Let a function without a driver decode its BARs."""
    await guest.act(f"echo 1 > {address.sysfs}/enable")


async def unbind(guest: Guest, address: Bdf) -> None:
    """Take the driver away from a function, if it has one."""
    await guest.act(f"[ ! -e {address.sysfs}/driver ] || echo {address} > {address.sysfs}/driver/unbind")


async def keep_to_first_cpu(guest: Guest) -> None:
    """Keep the guest's init, its commands and its interrupts on CPU 0: they go on if another one waits for a device."""
    await guest.act("taskset -p 1 1; for irq in /proc/irq/*/smp_affinity; do echo 1 2>/dev/null > $irq; done; true")


async def probe(
    guest: Guest, address: Bdf, access: Access, *, stall: Stall = NO_STALL, seconds: float = ACCESS_SECONDS
) -> Probed:
    """Make an access and watch for up to `seconds` guest seconds; one that does not complete is killed.

    Raises InputError if there is no such register or route, UnsupportedError where something is lacking for it.
    """
    async with trying(guest, address, access, stall=stall) as attempt:
        await attempt.start()
        await attempt.watch(seconds)
        return await attempt.end()


async def complete(guest: Guest, address: Bdf, access: Access) -> tuple[Timing, str]:
    """Make an access that nobody holds, and return what it took, with its line in shell.jsonl.

    Raises InputError if there is no such register or route, BrokenError if the process was killed.
    """
    register = await locate(guest, address, access)
    line = f"{PROGRAM} {register.arguments}"
    guest.machine.journal.step("guest", line)
    result = await guest.shell.run(line, patience=patience(EACH_SECONDS * access.count))
    timing = read_timing(result, register)
    if timing is None:
        raise BrokenError(f"probe: {access}: ended by {fault_name(result)}")
    return timing, result.evidence
