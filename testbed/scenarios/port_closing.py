"""A PF whose driver closes its port on an error, as in the report; and the registers of the VM's VF before and after.

Source of the registers: Linux drivers/net/ethernet/intel/igbvf/regs.h. QEMU reads them (`xp`): the VM may be stopped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from testbed.model.errors import UnsupportedError
from testbed.model.outcome import Finding
from testbed.model.parameter import Parameter
from testbed.scenarios.passthrough_state import PASSED, inside

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from testbed.guest.guest import Guest

CLOSING = Parameter(
    type="int",
    default=0,
    min=0,
    max=10_000,
    doc="milliseconds that igb takes to close each port on the error (image level1-closer); 0: as igb does by itself",
)
_MODULE = "port_closer"
_STATUS, _LINK_UP = "STATUS", 1 << 1
_REGISTERS = {_STATUS: 0x8, "V2PMAILBOX": 0xC40, "RXDCTL": 0x2828, "TXDCTL": 0x3828}


async def close_ports(host: Guest, milliseconds: int) -> None:
    """Have igb close its ports on errors; raise UnsupportedError if the image has no module for that."""
    result = await host.shell.run(f"modprobe {_MODULE} msecs={milliseconds}")
    if result.status != 0:
        raise UnsupportedError(f"closing: modprobe {_MODULE}: {result.error}", hint="--image level1-closer")


async def vf_registers(vm: Guest, when: str) -> list[Finding]:
    """Return what the VM's VF shows of itself; nothing if the VM has none, or not mapped."""
    buses = await vm.machine.qmp.execute("query-pci")
    regions = [device["regions"] for device in _devices(buses) if device["qdev_id"] == PASSED]
    base = next((each["address"] for each in regions[0] if each["bar"] == 0), -1) if regions else -1
    if base == -1:
        return []
    words = []
    for name, offset in _REGISTERS.items():
        line = {"command-line": f"xp /1wx {base + offset:#x}"}
        shown = (await vm.machine.qmp.execute("human-monitor-command", line)).rpartition(":")[2].strip()
        if not shown.startswith("0x"):
            return []  # nothing answers there: the BAR decodes nothing
        words.append(f"{name} {shown}")
        if name == _STATUS:
            words[-1] += " (link up)" if int(shown, 16) & _LINK_UP else " (no link)"
    subject = f"registers of the VF in the VM, {when}"
    observed = ", ".join(words)
    return [inside(Finding(subject=subject, expected="any", observed=observed, evidence=vm.machine.qmp.last_reply))]


def _devices(buses: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for bus in buses:
        # a bridge without devices behind it has no such member
        for device in bus.get("devices", ()):
            yield device
            yield from _devices([device.get("pci_bridge", {})])
