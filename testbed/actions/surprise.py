"""Surprise: take a device away without asking the guest's slot driver, as far as stock QEMU allows.

QEMU has no command for it: `device_del` always asks. What lets go of a device is the write that a slot driver ends its
work with, so that write is made behind its back:

native hot-plug  power off in the port's Slot Control register, in one 16-bit write (hw/pci/pcie.c tests the bits of the
                 value written, so two 8-bit writes do nothing)
ACPI hot-plug    the slot's bit in the eject register (docs/specs/acpi_pci_hotplug in QEMU)

What it is not: on hardware a card that is pulled out raises Presence Detect Changed and Data Link Layer State Changed,
and its registers read as all ones before anybody knows. Here QEMU raises no event that the driver would take for that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.guest.pci import place_of
from testbed.model.errors import RefusedError, UnsupportedError

if TYPE_CHECKING:
    from testbed.actions.unplug import Removal
    from testbed.guest.guest import Guest
    from testbed.guest.shell import Command
    from testbed.model.pci import Bdf
    from testbed.model.spec import Device

#: Slot Control (PCI Express Base Specification, 7.5.3.10): power indicator off, power controller off
_POWER_OFF = 0x0300 | 0x0400
#: the I/O ports of ACPI PCI hot-plug (include/hw/acpi/ich9.h, hw/acpi/piix4.c), and its registers
_PORTS = {"pcie.0": 0x0CC0, "pci.0": 0xAE00}
_EJECT, _SELECT = 0x08, 0x10


async def surprise_command(guest: Guest, device: Device, *, native: bool) -> tuple[str, str]:
    """Return the command with which the guest takes the device away from under its driver, and what it does in words.

    Raises UnsupportedError where neither way is there.
    """
    place = await place_of(guest.machine, device)
    if native and place.port is not None:
        return await _power_off(guest, place.port), f"power off in the Slot Control register of {place.port}"
    number = await _bus_number(guest, device)
    port = _PORTS[guest.machine.spec.root_bus]
    bit = 1 << place.device
    command = f"outl {port + _SELECT:#x} {number:#x} && outl {port + _EJECT:#x} {bit:#x}"
    return command, f"the bit of slot {place.device} in the eject register, I/O port {port + _EJECT:#x}"


async def take_away(going: Removal, command: str) -> list[Command]:
    """Let the guest run the command of `surprise_command`; `outl` is a verb of its init, no program."""
    if not command.startswith("outl"):
        return [await going.ask_guest(command)]
    words = [part.split() for part in command.split(" && ")]
    return [await going.ask_guest_verb(*each) for each in words]


async def _power_off(guest: Guest, port: Bdf) -> str:
    old = await guest.shell.run(f"setpci -s {port} CAP_EXP+18.W")
    if old.status != 0:
        raise UnsupportedError(f"setpci in the guest: {old.error or 'no output'}", hint="use the image debian")
    return f"setpci -s {port} CAP_EXP+18.W={int(old.text, 16) | _POWER_OFF:04x}"


async def _bus_number(guest: Guest, device: Device) -> int:
    """Return the number by which ACPI hot-plug knows a device's bus; raise UnsupportedError if it does not serve it."""
    qmp = guest.machine.qmp
    path = await qmp.execute("qom-get", {"path": f"/machine/peripheral/{device.id}", "property": "parent_bus"})
    try:
        return int(await qmp.execute("qom-get", {"path": path, "property": "acpi-pcihp-bsel"}))
    except RefusedError as refusal:
        raise UnsupportedError(f"ACPI does not serve bus {device.bus}: {refusal.description}") from None
