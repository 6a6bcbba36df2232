"""The check list for passing a function through, asked of what real hosts say of themselves: guests with an IOMMU."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import pytest

from testbed.explain.check import Answer
from testbed.explain.evidence import gather
from testbed.explain.host_check import check_host
from testbed.explain.source import split_parts
from testbed.guest.drivers import load_drivers
from testbed.model.pci import Bdf

if TYPE_CHECKING:
    from testbed.explain.check import Check
    from testbed.explain.source import Part
    from testbed.guest.guest import Guest
    from testbed.pytest_plugin import BootFactory

_PF = "0000:01:00.0"
#: what is asked of a host, as the docs have it
_COMMANDS = {
    "dmesg": "dmesg",
    "cmdline": "cat /proc/cmdline",
    "interrupts": "cat /proc/interrupts",
    "lspci": "lspci -vvv",
    "groups": "find /sys/kernel/iommu_groups -type l",
    "function": f"grep . /sys/bus/pci/devices/{_PF}/reset_method /sys/bus/pci/devices/{_PF}/sriov_totalvfs",
    "lsmod": "lsmod",
}
_ON = "intel_iommu=on no_timer_check"


async def _checks(guest: Guest) -> dict[str, Check]:
    """Return the check list of a guest's first card, by item."""
    parts: list[Part] = []
    for name, command in _COMMANDS.items():
        # grep complains of files that cannot be read
        said = await guest.shell.run(f"{command} 2>/dev/null")
        if said.stdout.strip():
            parts += split_parts(name, said.stdout)
    return {check.item: check for check in check_host(gather(parts), Bdf.parse(_PF))}


@pytest.mark.seconds(10)
async def test_a_host_that_has_all_is_told_so_with_its_lines(testbed_boot: BootFactory) -> None:
    parameters = {"pf": "nvme", "vfs": 3, "iommu": "intel"}
    async with testbed_boot("sriov", parameters=parameters, cmdline=_ON) as guest:
        await load_drivers(guest)
        await guest.load_modules("vfio_pci")
        checks = await _checks(guest)
    assert {item: check.answer for item, check in checks.items()} == {
        "IOMMU in use": Answer.YES,
        "interrupt remapping": Answer.YES,
        "a group of its own": Answer.YES,
        "ACS in the ports above": Answer.YES,
        "vfio-pci": Answer.YES,
        "SR-IOV": Answer.YES,
        "room for the VFs": Answer.YES,
        "a reset of its own": Answer.YES,
    }
    assert checks["SR-IOV"].why == "3 VFs at most"
    assert checks["a reset of its own"].why == "reset_method: flr bus"
    assert all(check.evidence for check in checks.values())


@pytest.mark.extended
@pytest.mark.seconds(12)
@pytest.mark.parametrize(
    ("parameters", "cmdline", "missing"),
    [
        pytest.param({"iommu": "none"}, "", {"IOMMU in use": "describes no IOMMU"}, id="no-iommu"),
        pytest.param(
            {"iommu": "intel"},
            "intel_iommu=off no_timer_check",
            {"IOMMU in use": "intel_iommu=off is on the command line"},
            id="switched-off",
        ),
        pytest.param(
            {"iommu": "intel"},
            f"{_ON} intremap=off",
            {"interrupt remapping": "intremap=off is on the command line"},
            id="no-remapping",
        ),
        pytest.param(
            {"iommu": "intel", "acs": False},
            _ON,
            {"a group of its own": "as well", "ACS in the ports above": "0000:00:02.0 has none"},
            id="no-acs",
        ),
    ],
)
async def test_what_a_host_lacks_is_told_and_nothing_else(
    testbed_boot: BootFactory, parameters: dict[str, object], cmdline: str, missing: dict[str, str]
) -> None:
    async with testbed_boot("sriov", parameters={"pf": "nvme", "vfs": 3, **parameters}, cmdline=cmdline) as guest:
        await load_drivers(guest)
        await guest.load_modules("vfio_pci")
        await guest.act(f"echo 2 > /sys/bus/pci/devices/{shlex.quote(_PF)}/sriov_numvfs")
        checks = await _checks(guest)
    lacking = {item: check.why for item, check in checks.items() if check.answer is Answer.NO}
    for item, words in missing.items():
        assert words in lacking[item]
    # where no IOMMU is in use nothing remaps interrupts, and Linux does not enable ACS
    follow = {"interrupt remapping", "ACS in the ports above"} if "IOMMU in use" in missing else set()
    assert set(lacking) <= {*missing, *follow}
