"""Why a step did not come out as it must, where an option of the command line took away what it needs.

The rules are those of scenarios in Python: nobody serves the slot of a device that came or is to go, the guest does not
read as far as a capability, MSI-X is off.
"""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING

from testbed.guest.files import show
from testbed.guest.hotplug_control import read_control, slot_taken_away
from testbed.guest.lost_feature import hidden_capability, msix_off
from testbed.guest.pci import addresses
from testbed.machine.device_tree import live_devices
from testbed.model import capabilities
from testbed.model.errors import BrokenError
from testbed.model.spec import Slot
from testbed.steps.condition import EventCame, PathIsGone, PathIsThere, RegisterIs
from testbed.steps.step import Line

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from testbed.machine.device_tree import LiveDevice
    from testbed.model.errors import TakenAwayError
    from testbed.model.pci import Bdf
    from testbed.steps.condition import Condition
    from testbed.steps.scene import Scene
    from testbed.steps.step import Expect, Wait

_FUNCTIONS = "/sys/bus/pci/devices/*"
#: extended capabilities by what setpci calls them, and by the begin of the files that the kernel makes for them
_REGISTERS = {"ECAP_AER": capabilities.AER, "ECAP_ARI": capabilities.ARI, "ECAP_SRIOV": capabilities.SRIOV}
_FILES = {"aer_": capabilities.AER, "sriov_": capabilities.SRIOV}
_MSIX = "CAP_MSIX"
_REMOVAL = re.compile(r"(?:unplug |(?:qmp )?device_del id=)(\S+)")


async def taken_away(scene: Scene, step: Line | Wait | Expect) -> TakenAwayError | None:
    """Return which option of the command line kept a step from coming out as it must; None if none is known to."""
    if not await scene.is_running():
        return None
    async for slot, what in _slots(scene, step):
        # a port of its own may be behind one that the guest has not seen
        with contextlib.suppress(BrokenError):
            if lost := slot_taken_away(await read_control(scene.guest, slot), what):
                return lost
    condition = None if isinstance(step, Line) else step.condition
    return await _lost_feature(scene, condition) if condition else None


async def _slots(scene: Scene, step: Line | Wait | Expect) -> AsyncIterator[tuple[Slot, str]]:
    """Yield the slots of the devices that were added and are not in the guest, and of the one that is to go."""
    places = await addresses(scene.guest.machine)
    known = {each.id for each in scene.guest.machine.spec.devices}
    there = (await show(scene.guest, _FUNCTIONS)).matching(_FUNCTIONS)
    leaving = _leaving(step)
    for device in await live_devices(scene.guest.machine):
        address = places.get(device.id)
        if address is None:
            continue
        if device.id not in known and address.sysfs not in there:
            yield _slot(device, places), f"{device.id} was added but did not appear"
        elif device.id == leaving:
            yield _slot(device, places), f"{device.id} was asked to leave but stayed"


def _slot(device: LiveDevice, places: Mapping[str, Bdf]) -> Slot:
    return Slot(bus=device.bus, addr=f"0x{places[device.id].device:x}")


def _leaving(step: Line | Wait | Expect) -> str:
    """Return the id of the device whose removal a step asks or waits for."""
    if isinstance(step, Line):
        asked = _REMOVAL.match(step.text)
        return asked[1] if asked else ""
    match step.condition:
        case EventCame(name="DEVICE_DELETED", data=data):
            return data.get("device", "")
        case PathIsGone(path=path) if not path.startswith("/"):
            return path.partition("/")[0]
        case _:
            return ""


async def _lost_feature(scene: Scene, condition: Condition) -> TakenAwayError | None:
    """Return which option keeps the guest from a capability that a register or a file belongs to."""
    match condition:
        case RegisterIs(device=device, register=register):
            name = re.split(r"[+.]", register.upper())[0]
            capability = _REGISTERS.get(name)
        case PathIsThere(path=path) if not path.startswith("/"):
            device, _, file = path.partition("/")
            name, capability = "", next((found for begin, found in _FILES.items() if file.startswith(begin)), None)
        case _:
            return None
    address = await scene.place(device)
    if address is None or (capability is None and name != _MSIX):
        return None
    lost = await (hidden_capability(scene.guest, address, capability) if capability else msix_off(scene.guest, address))
    return lost.error if lost else None
