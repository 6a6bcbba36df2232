"""SR-IOV in a real guest: nvme on every QEMU, igb where a QEMU here has it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from testbed.actions.aer import inject
from testbed.actions.injection import InjectionVerdict, Route
from testbed.actions.sriov import enable_at_least, pf_of, set_autoprobe, set_vfs
from testbed.guest.drivers import load_drivers
from testbed.model.errors import InputError, TakenAwayError
from tests.guest.conftest import qemu_with

if TYPE_CHECKING:
    from testbed.model.outcome import Outcome
    from testbed.pytest_plugin import BootFactory, Judge

_NVME = {"pf": "nvme", "vfs": 3}


@pytest.mark.seconds(15)
async def test_vfs_are_where_the_registers_say_and_refusals_are_the_kernels(testbed_boot: BootFactory) -> None:
    async with testbed_boot("sriov", parameters=_NVME) as guest:
        await load_drivers(guest)
        with pytest.raises(InputError, match="can have 3, counted from 0"):
            await enable_at_least(guest, "dev1", 4)
        bdf = (await pf_of(guest, "dev1")).bdf
        refused = await set_vfs(guest, bdf, 4)
        assert refused.error == "Numerical result out of range"
        await set_autoprobe(guest, bdf, on=False)
        pf = await enable_at_least(guest, "dev1", 2)
        assert [str(vf.bdf) for vf in pf.vfs] == ["0000:01:00.1", "0000:01:00.2"]
        assert [vf.bdf for vf in pf.vfs] == [pf.expected_bdf(n) for n in (0, 1)]
        assert [vf.bars for vf in pf.vfs] == [pf.expected_bars(n) for n in (0, 1)]
        assert {(vf.driver, vf.raw_ids, vf.device) for vf in pf.vfs} == {("", (0xFFFF, 0xFFFF), 0x10)}
        changed = await set_vfs(guest, bdf, 1)
        assert changed.words == "Device or resource busy - 2 VFs already enabled. Disable before enabling 1 VFs"
        await guest.act(f"echo {bdf} > {bdf.sysfs}/driver/unbind")
        driverless = await set_vfs(guest, bdf, 1)
        assert "no driver bound to device; cannot configure SR-IOV" in driverless.words
        with pytest.raises(InputError, match="is not a PF"):
            await pf_of(guest, "rp1")


def _reason(outcome: Outcome) -> str:
    return f"{outcome.verdict}: {outcome.reason}"


@pytest.mark.seconds(20)
async def test_a_capability_that_the_command_line_hides_is_told_from_one_that_is_not_there(
    testbed_boot: BootFactory,
) -> None:
    async with testbed_boot("sriov", parameters=_NVME, cmdline="quiet pci=nommconf audit=0") as guest:
        with pytest.raises(TakenAwayError) as caught:
            await pf_of(guest, "dev1")
        assert caught.value.options == ("pci=nommconf",)
        with pytest.raises(InputError, match="is not a PF"):
            await pf_of(guest, "rp1")
        with pytest.raises(TakenAwayError, match="AER"):
            await inject(guest, "rp1", "COMP_TIME")


@pytest.mark.seconds(20)
async def test_a_pf_that_the_command_line_hides_is_bad_with_the_suspect(testbed_try: Judge) -> None:
    outcome = await testbed_try("sriov-enable", "sriov", parameters=_NVME, cmdline="pci=nommconf")
    assert (outcome.verdict, outcome.outcome) == ("bad", "taken-away"), outcome.reason
    assert outcome.reason.endswith("suspect: pci=nommconf")


@pytest.mark.seconds(40)
@pytest.mark.parametrize("scenario", ["sriov-enable", pytest.param("sriov-cycle", marks=pytest.mark.extended)])
async def test_igb_without_msi_x_names_the_option(scenario: str, testbed_try: Judge) -> None:
    outcome = await testbed_try(scenario, "sriov", cmdline="pci=nomsi", qemu=qemu_with("igb"))
    assert outcome.verdict == "bad", outcome.reason
    assert "Operation not permitted" in outcome.reason
    assert outcome.reason.endswith("suspect: pci=nomsi")


@pytest.mark.extended
@pytest.mark.seconds(60)
async def test_enable_cycle_and_reset(testbed_try: Judge) -> None:
    enabled = await testbed_try("sriov-enable", "sriov", parameters=_NVME, options={"vfs": 3})
    assert _reason(enabled).startswith("good: 3 VFs")
    cycled = await testbed_try("sriov-cycle", "sriov", parameters=_NVME, options={"cycles": 3})
    assert _reason(cycled).startswith("good: as before")
    reset = await testbed_try("vf-flr", "sriov", parameters=_NVME)
    assert _reason(reset).startswith("good: 0000:01:00.1 was reset")


@pytest.mark.extended
@pytest.mark.seconds(120)
async def test_127_vfs_of_nvme_stand_where_the_registers_say(testbed_try: Judge) -> None:
    outcome = await testbed_try("sriov-enable", "sriov", parameters={"pf": "nvme", "vfs": 127}, options={"vfs": 127})
    assert (outcome.verdict, outcome.outcome) == ("good", "enabled"), outcome.reason
    assert outcome.reason.startswith("127 VFs in ")


@pytest.mark.extended
@pytest.mark.seconds(20)
async def test_a_reset_of_nvmes_pf_takes_its_vfs_away(testbed_try: Judge) -> None:
    outcome = await testbed_try("vf-flr", "sriov", parameters=_NVME, options={"function": "pf"})
    assert outcome.verdict == "bad"
    assert "nothing answers" in outcome.reason


@pytest.mark.extended
@pytest.mark.seconds(30)
@pytest.mark.parametrize(("acs", "verdict"), [(True, "good"), (False, "bad")])
async def test_iommu_groups_need_acs(acs: bool, verdict: str, testbed_try: Judge) -> None:
    outcome = await testbed_try(
        "sriov-enable",
        "sriov",
        parameters={**_NVME, "iommu": "intel", "acs": acs},
        cmdline="intel_iommu=on no_timer_check",
        options={"own_groups": True},
    )
    assert outcome.verdict == verdict, outcome.reason
    assert "IOMMU groups" in outcome.reason


@pytest.mark.seconds(25)
async def test_an_error_of_a_vf_goes_by_the_guest(testbed_boot: BootFactory) -> None:
    async with testbed_boot("sriov", qemu=qemu_with("igb")) as guest:
        await load_drivers(guest)
        await enable_at_least(guest, "dev1", 1)
        await load_drivers(guest)
        result = await inject(guest, "dev1", "RCVR", vf=0)
        assert (result.verdict, result.route) == (InjectionVerdict.INJECTED, Route.GUEST)
        assert str(result.target.bdf) == "0000:01:10.0"
        with pytest.raises(InputError, match=r"has no VF 1: 1 are enabled"):
            await inject(guest, "dev1", "RCVR", vf=1)
        with pytest.raises(InputError, match="a VF has none"):
            await inject(guest, "dev1", "RCVR", vf=0, route=Route.QEMU)


@pytest.mark.extended
@pytest.mark.seconds(100)
async def test_a_vf_survives_a_correctable_error_and_dies_of_a_fatal_one(testbed_try: Judge) -> None:
    qemu = qemu_with("igb")
    unharmed = await testbed_try(
        "aer-vf-survival", "sriov", qemu=qemu, options={"severity": "correctable", "limit": 15}
    )
    assert _reason(unharmed).endswith("no outage")
    dead = await testbed_try("aer-vf-survival", "sriov", qemu=qemu, options={"severity": "fatal", "limit": 30})
    assert (dead.verdict, dead.outcome) == ("bad", "no-traffic")
    assert "the PF's recovery was successful, the PF works" in dead.reason
    needless = await testbed_try(
        "aer-vf-survival", "sriov", qemu=qemu, options={"severity": "correctable", "limit": 5, "remedy": "down-up"}
    )
    assert needless.verdict == "broken"
    assert "nothing that down and up could mend" in needless.reason
