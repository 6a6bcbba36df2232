"""A guest that is migrated continues in another QEMU; what it was doing, and what it waits for, moves with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.machine.migration import migrate
from testbed.machine.snapshot import KEEPING_DRIVERS
from testbed.model.errors import UnsupportedError

if TYPE_CHECKING:
    from testbed.guest.guest import Guest
    from testbed.host.qemu import Qemu
    from testbed.machine.migration import Migrated
    from testbed.model.spec import MachineSpec


async def migrate_guest(guest: Guest, spec: MachineSpec, qemu: Qemu) -> Migrated:
    """Continue a guest in another QEMU, which is given `spec`; one that was stopped stays stopped there.

    Raises UnsupportedError for a guest that cannot be migrated, else as `testbed.machine.migration.migrate`.
    """
    await check_migratable(guest, spec)
    machine = guest.machine
    machine.journal.step(
        "say", f"here the guest was migrated to QEMU {qemu.version}; this script continues without that"
    )
    running = (await machine.qmp.execute_unlogged("query-status", {}))["running"]
    if running:
        # what is under way to the guest would be lost with the QEMU that holds it
        await guest.shell.catch_up()
    migrated = await migrate(machine, spec, qemu)
    await guest.shell.move()
    machine.journal.shell.write("migrated", {"to": str(migrated)})
    if running:
        await machine.qmp.execute_unrepeated("cont")
    return migrated


async def check_migratable(guest: Guest, spec: MachineSpec) -> None:
    """Raise UnsupportedError if QEMU, or the test bed, cannot migrate this guest."""
    told = await guest.machine.qmp.execute("query-migrate")
    if blocked := told.get("blocked-reasons"):
        raise UnsupportedError(f"QEMU cannot migrate this machine: {'; '.join(blocked)}")
    forgetful = sorted({device.driver for device in spec.devices} - KEEPING_DRIVERS)
    if forgetful:
        raise UnsupportedError(
            f"migration: QEMU is not known to migrate the whole state of {', '.join(forgetful)}",
            hint=f"it does so for {', '.join(sorted(KEEPING_DRIVERS))}",
        )
    for there, what in (
        (guest.level2, "a guest with a machine in it"),
        (guest.user_space, "a guest with its disk's own user space"),
        (not guest.agent, "a guest that is reached over its console"),
        (guest.machine.boot.firmware, "a machine with UEFI firmware"),
        (spec.channels, "a machine with channels of its own"),
    ):
        if there:
            raise UnsupportedError(f"migration: the test bed does not migrate {what}")
