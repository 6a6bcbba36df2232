"""Machines inside a machine: L1 runs them under its own KVM, and they are machines like any other."""

from __future__ import annotations

import contextlib
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import pytest

from testbed.actions.mmio import complete, enable, unbind
from testbed.actions.register import Access, Route
from testbed.campaign.prepared import launched
from testbed.guest.bars import read_owner
from testbed.guest.guest import boot
from testbed.guest.level1 import Level1Host
from testbed.guest.level2 import LEVEL2, level2, prepare_level1
from testbed.guest.pci import address_of
from testbed.guest.tracing import FILE, MMIO_EVENTS, tracing
from testbed.host.canary import EXIT_STATUS, TICKS, build_canary, canary_argv
from testbed.host.qemu import find_qemu
from testbed.image.level2 import image_places, qemu_in_guest
from testbed.kvmtrace.explanation import explain
from testbed.machine.qemu_choice import choose_qemu
from testbed.machine.template import load_template
from testbed.model.errors import GuestCrashedError, InputError, UnsupportedError
from testbed.model.mmio_record import Mode
from testbed.model.outcome import Verdict
from testbed.scenarios.scenario import find_scenario
from testbed.scenarios.trial import Trial
from tests.guest.conftest import prepared

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager

    from testbed.guest.guest import Guest
    from testbed.host.host import LocalHost
    from testbed.model.outcome import Judgement
    from testbed.model.spec import MachineSpec
    from testbed.pytest_plugin import Judge


@contextlib.asynccontextmanager
async def level1(host: LocalHost, rundir: Path, **parameters: Any) -> AsyncIterator[Guest]:
    """Boot an L1 without anything to pass through: any QEMU has what it needs."""
    given = {"devices": [], "iommu": "none", "memory": 1024, **parameters}
    ready = prepared(
        machine="level1", image="level1", parameters=given, time="real", cmdline="no_timer_check nohz=off highres=off"
    )
    async with launched(ready, host, rundir) as machine, boot(machine) as guest:
        yield guest


def small(**parameters: Any) -> MachineSpec:
    return load_template("q35").spec({"memory": 256, "ports": 1, **parameters})


async def _enter(machine: AbstractAsyncContextManager[Guest]) -> None:
    async with machine:
        pass


def inside(guest: Guest, spec: MachineSpec, name: str = "level2") -> AbstractAsyncContextManager[Guest]:
    return level2(guest, Level1Host(guest), spec, qemu=qemu_in_guest(""), image=image_places("debian"), name=name)


async def judged(guest: Guest, name: str, **options: Any) -> Judgement:
    """Run a scenario in a guest that is up."""
    scenario = find_scenario(name)
    await guest.load_modules("virtio_pci", "virtio_blk", "e1000e")
    return await scenario.run(Trial(guest=guest, options=scenario.values(options)))


@pytest.mark.extended
@pytest.mark.seconds(90)
async def test_scenarios_run_under_level_1s_kvm(host: LocalHost, tmp_path: Path) -> None:
    async with level1(host, tmp_path) as guest:
        await prepare_level1(guest)
        async with inside(guest, small(hotplug="native", ports=2, devices=["virtio-blk", "e1000e"])) as vm:
            assert vm.machine.accel.name == "kvm"
            for severity in ("non-fatal", "fatal"):
                recovery = await judged(vm, "aer-recover", device="dev2", severity=severity)
                assert (recovery.verdict, recovery.outcome) == (Verdict.GOOD, "recovered"), recovery.reason
            unplugged = await judged(vm, "disk-unplug")
            assert (unplugged.verdict, unplugged.outcome) == (Verdict.GOOD, "deleted"), unplugged.reason
        left = await guest.shell.run("ps | grep -c '[q]emu-system'")
        assert left.text == "0"


@pytest.mark.extended
@pytest.mark.seconds(60)
async def test_accesses_of_a_level_2_guest_are_in_level_1s_kvm_trace(host: LocalHost, tmp_path: Path) -> None:
    async with level1(host, tmp_path) as guest:
        await prepare_level1(guest)
        async with inside(guest, small(ports=1, devices=["virtio-net"])) as vm:
            await vm.load_modules("virtio_pci")
            address = await address_of(vm.machine, "dev1")
            await unbind(vm, address)
            await enable(vm, address)
            owner = await read_owner(vm, address)
            assert owner is not None
            async with tracing(guest, events=MMIO_EVENTS):
                for route, count in ((Route.USER, 5), (Route.KERNEL, 7)):
                    access = Access(route=route, bar=4, offset=0x14, width=1, count=count)
                    await complete(vm, address, access)
                # L1 takes seconds to make text of the trace, and needs its timers for it
                await vm.machine.qmp.execute("stop")
    trace = (tmp_path / FILE).read_text()
    shown = explain(trace.splitlines(), name=FILE, at_least=10)
    assert (shown.host, shown.loops, shown.lost, shown.unread) == ("AMD", (), 0, 0)
    start = next(bar.start for bar in owner.bars if bar.index == 4)
    register = next(row for row in shown.registers if row.address == start + 0x14)
    assert (register.reads, register.writes) == (12, 0)
    assert register.modes == {Mode.USER, Mode.KERNEL}


@pytest.mark.seconds(100)
async def test_a_running_machine_is_saved_with_level_1_and_goes_on(testbed_try: Judge) -> None:
    """The saved one is that of the cases vf-passthrough-lifecycle and pf-aer-vm-hang: level 1 boots once for all."""
    cell = {"image": "level1", "qemu": "any", "cmdline": "intel_iommu=on iommu=pt no_timer_check nohz=off highres=off"}
    first = await testbed_try("vm-survives-error", "level1", options={"passed": "none"}, **cell)
    second = await testbed_try("vm-survives-error", "level1", options={"remedy": "unplug"}, **cell)
    assert (first.verdict, first.note) == (Verdict.GOOD, ""), first.reason
    assert (second.start, second.verdict, second.note) == ("warm", Verdict.GOOD, ""), second.reason
    # what L2 said before it was saved, and its QEMU's first words, which it says only once
    logged = Path(second.rundir, LEVEL2, "kernel.log").read_text()
    assert "Command line: console=ttyS0" in logged
    assert "qmp_capabilities" not in Path(second.rundir, LEVEL2, "qmp.jsonl").read_text()


@pytest.mark.extended
@pytest.mark.seconds(60)
async def test_a_reset_is_no_remedy_for_a_vm_that_was_not_stopped(testbed_try: Judge) -> None:
    seen = await testbed_try(
        "vm-survives-error",
        "level1",
        image="level1",
        cmdline="intel_iommu=on iommu=pt no_timer_check nohz=off highres=off",
        parameters={"devices": ["e1000e", "e1000e"], "functions": 2},
        options={"passed": "pf", "severity": "correctable", "remedy": "reset"},
    )
    assert seen.verdict is Verdict.BROKEN
    assert "was not stopped (running)" in seen.reason


@pytest.mark.extended
@pytest.mark.seconds(60)
async def test_the_vm_is_stopped_behind_an_amd_iommu_too(testbed_try: Judge) -> None:
    seen = await testbed_try(
        "vm-survives-error",
        "level1",
        image="level1",
        # docs/nested.md tells why without the I/O APIC, and so without interrupt remapping
        cmdline="iommu=pt no_timer_check nohz=off highres=off noapic vfio_iommu_type1.allow_unsafe_interrupts=1",
        parameters={"devices": ["e1000e", "e1000e"], "functions": 2, "iommu": "amd"},
        options={"passed": "pf"},
    )
    assert (seen.start, seen.verdict, seen.note) == ("fresh", Verdict.BAD, ""), seen.reason
    assert "vfio_err_notifier_handler" in seen.reason
    assert "AMD-Vi:" in Path(seen.rundir, "kernel.log").read_text()


@pytest.mark.extended
@pytest.mark.seconds(90)
async def test_another_qemu_is_put_into_level_1_and_runs_the_vm(testbed_try: Judge) -> None:
    own, other = find_qemu(), choose_qemu("any", load_template("level1").spec({}))
    if other.version == own.version or (other.prefix and other.prefix.library_folders):
        pytest.skip("needs a second QEMU that uses this host's libraries: testbed qemu fetch")
    seen = await testbed_try(
        "vm-recovers",
        "level1",
        image="level1",
        qemu="any",
        cmdline="intel_iommu=on iommu=pt no_timer_check nohz=off highres=off",
        options={"event": "bus-reset", "function": "vf", "qemu": str(other.path)},
    )
    version = next(each for each in seen.findings if each.subject == "version of level 1's QEMU")
    assert version.observed.split()[0] == other.version.split()[0] != own.version.split()[0]
    assert (seen.verdict, seen.outcome) == (Verdict.GOOD, "reset"), seen.reason


@pytest.mark.seconds(30)
async def test_the_canary_runs_under_level_1s_kvm_and_a_qemu_that_refuses_is_quoted(
    host: LocalHost, tmp_path: Path
) -> None:
    async with level1(host, tmp_path) as guest:
        await prepare_level1(guest)
        place = PurePosixPath("/run/canary")
        await guest.shell.put_file(str(place), build_canary().read_bytes())
        argv = canary_argv(qemu_in_guest(""), "kvm", "host", place)
        result = await guest.shell.run(" ".join(argv) + " </dev/null")
        assert (result.status, TICKS in result.text) == (EXIT_STATUS, True), result.error
        with pytest.raises(InputError, match="unable to find CPU model 'z80'"):
            await _enter(inside(guest, small(cpu="z80")))
        assert (await guest.shell.run("echo alive")).text == "alive"


@pytest.mark.extended
@pytest.mark.seconds(30)
async def test_what_level_1_cannot_do_is_told(host: LocalHost, tmp_path: Path) -> None:
    async with level1(host, tmp_path, channels=2) as guest:
        await prepare_level1(guest)
        with pytest.raises(UnsupportedError, match="no port left for the channel shell") as caught:
            await _enter(inside(guest, small()))
        assert caught.value.hint == "give it more: -p channels=5"


@pytest.mark.seconds(12)
async def test_without_virtualization_there_is_no_level_2(host: LocalHost, tmp_path: Path) -> None:
    async with level1(host, tmp_path, cpu="max,-svm", channels=0) as guest:
        with pytest.raises(UnsupportedError, match="no KVM on CPU max,-svm") as caught:
            await prepare_level1(guest)
        assert "-p cpu=max,+svm" in (caught.value.hint or "")


async def _panic_under(host: LocalHost, rundir: Path) -> None:
    async with level1(host, rundir) as guest:
        await prepare_level1(guest)
        async with inside(guest, small(devices=[])) as vm:
            await guest.shell.start("echo c > /proc/sysrq-trigger")
            await vm.shell.sleep(600)


@pytest.mark.extended
@pytest.mark.seconds(60)
async def test_a_level_1_that_panics_ends_both(host: LocalHost, tmp_path: Path) -> None:
    with pytest.raises(GuestCrashedError, match=r"panic|sysrq"):
        await _panic_under(host, tmp_path)
