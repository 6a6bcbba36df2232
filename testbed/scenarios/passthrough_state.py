"""The starting state of scenarios with a VM in a host: the idle VM, and the function of the host's that it is given."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.actions.hotplug import add_device
from testbed.actions.passthrough import VFIO, bind, check_group, group_of, vfio_device
from testbed.actions.sriov import enable_at_least, set_autoprobe
from testbed.guest.level2 import LEVEL1_MODULES, LEVEL2, LEVEL2_LINE, Level2
from testbed.guest.pci import address_of
from testbed.guest.vf_link import await_carrier, exchange_before, interface_at
from testbed.model.errors import BrokenError
from testbed.model.outcome import Finding
from testbed.model.setup import Setup

if TYPE_CHECKING:
    from testbed.guest.guest import Guest
    from testbed.model.pci import Bdf
    from testbed.model.spec import Device
    from testbed.scenarios.trial import Trial

#: loaded at level 1
HOST_MODULES = (*LEVEL1_MODULES, "igb", "e1000e", "aer_inject")
#: the VM has nothing of the host's until it is given it
VM = Level2(
    setup=Setup(
        machine="q35", parameters={"memory": 160, "devices": [], "ports": 2, "hotplug": "acpi"}, cmdline=LEVEL2_LINE
    ),
    modules=("igb", "igbvf", "e1000e"),
)
#: the function that is passed, or whose VF is; and another of the same device
PF, SIBLING = "dev1", "dev2"
#: what the VM calls it, and where it gets it
PASSED, PORT = "passed1", "rp1"
#: guest seconds the VM's driver may take
BIND_SECONDS = 20.0
#: what is seen of a link that works
FRAME = "a frame that comes back"
#: guest seconds a driver may take to have a link, unless told otherwise, and a link to carry a frame
LINK_SECONDS, _FRAME_SECONDS = 40, 10.0


def vm_of(trial: Trial) -> Guest:
    """Return the VM that runs in the machine; raise BrokenError if there is none."""
    if trial.guest.level2 is None:
        raise BrokenError("starting state: no VM runs in the machine")
    return trial.guest.level2


async def make_vf(guest: Guest, *, autoprobe: bool = False) -> Bdf:
    """Return the first VF, made if need be; with `autoprobe` off, only a driver_override lets a driver bind to it."""
    pf = await address_of(guest.machine, PF)
    await set_autoprobe(guest, pf, on=autoprobe)
    vf = (await enable_at_least(guest, PF, 1)).vfs[0].bdf
    # a VF has no link without it; before, igb would take its second to open the port twice
    await guest.act(f"for net in {pf.sysfs}/net/*; do ip link set ${{net##*/}} up; done")
    return vf


async def give(guest: Guest, vm: Guest, function: Bdf, *, port: str = PORT) -> Device:
    """Have the VM drive a function of the host's, and return its device there; all of its group leave their drivers.

    Raises UnsupportedError if the function cannot be passed for lack of an IOMMU.
    """
    members = await group_of(guest, function)
    check_group(function, members)
    for each in members:
        await bind(guest, each, VFIO)
    device = vfio_device(function, device_id=PASSED, bus=port)
    await add_device(vm.machine, device)
    place = await address_of(vm.machine, PASSED)
    bound = await vm.shell.wait_path(f"{place.sysfs}/driver", exists=True, seconds=BIND_SECONDS)
    if not bound.came:
        raise BrokenError(f"starting state: {PASSED} has no driver in the VM (level2/{bound.evidence})")
    return device


async def traffic(guest: Guest, bdf: Bdf, subject: str, *, seconds: float = LINK_SECONDS) -> Finding:
    """Return whether a function has a link within `seconds` and a frame that the network's gateway answers."""
    # a driver is in sysfs before its probe has made an interface
    await guest.shell.wait_path(f"{bdf.sysfs}/net", exists=True, seconds=BIND_SECONDS)
    interface = await interface_at(guest, bdf)
    if not interface:
        return Finding(subject=subject, expected=FRAME, observed="no network interface", evidence="shell.jsonl")
    sample = await await_carrier(guest, interface, seconds=seconds)
    if not sample.carrier:
        return Finding(subject=subject, expected=FRAME, observed="no carrier", evidence=sample.evidence)
    answer = await exchange_before(guest, interface, end=sample.seconds + _FRAME_SECONDS)
    observed = FRAME if answer.works else answer.observed
    return Finding(subject=subject, expected=FRAME, observed=observed, evidence=answer.evidence)


async def vm_traffic(vm: Guest, subject: str, *, device: str = PASSED, seconds: float = LINK_SECONDS) -> Finding:
    """Return whether a function works in the VM: the one that it was given, or one of its own."""
    return inside(await traffic(vm, await address_of(vm.machine, device), subject, seconds=seconds))


def inside(finding: Finding) -> Finding:
    """Return a finding of the VM's with its evidence as the cell's rundir has it."""
    return finding.model_copy(update={"evidence": f"{LEVEL2}/{finding.evidence}"})


def proven(finding: Finding) -> Finding:
    """Return a finding of the starting state; raise BrokenError if it is not as it must be."""
    if finding.observed != finding.expected:
        raise BrokenError(f"starting state: {finding.subject}: {finding.observed} ({finding.evidence})")
    return finding
