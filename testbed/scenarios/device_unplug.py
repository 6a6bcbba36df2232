"""Scenario device-unplug: any device, from any slot, bridge or controller."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from testbed.actions.unplug import UnplugOutcome, refused, removal
from testbed.guest.hotplug_control import read_control, slot_taken_away
from testbed.guest.place import place_in_guest
from testbed.model.device_kind import KINDS, BusKind, bus_kind, controller_of
from testbed.model.errors import BrokenError, UnsupportedError
from testbed.model.outcome import Verdict
from testbed.model.parameter import Parameter
from testbed.scenarios.device_choice import OPTIONS, check_choice, choose
from testbed.scenarios.device_plug import make_ready, plug_steps
from testbed.scenarios.hotplug_judgement import findings_of, judge_unplug
from testbed.scenarios.load import start_load
from testbed.scenarios.load_kinds import Fate
from testbed.scenarios.migration import MIGRATION_OPTIONS, Migration, check_migration
from testbed.scenarios.scenario import PATIENCE, scenario
from testbed.scenarios.starting_state import load_driver, prove

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from typing import Any

    from testbed.actions.unplug import Unplugged
    from testbed.guest.hotplug_control import HotplugControl
    from testbed.guest.place import Place
    from testbed.host.qemu import Qemu
    from testbed.model.device_kind import DeviceParts
    from testbed.model.outcome import Judgement
    from testbed.model.spec import Device, MachineSpec
    from testbed.scenarios.trial import Trial

_DRIVER = Parameter(
    type="str",
    default="",
    doc="kind of device: one the machine has, else one that is added first; empty: whatever is in the slot",
)

#: what leaves a device where it was
_STAYING = (UnplugOutcome.IGNORED, UnplugOutcome.REFUSED, UnplugOutcome.BUSY)


def _check(spec: MachineSpec, qemu: Qemu, options: Mapping[str, Any]) -> None:
    check_migration(spec, qemu, options)
    if not _cold(spec, options):
        check_choice(spec, qemu, options)


@scenario(
    loads=("io", "net"),
    warp_safe=True,
    patience=PATIENCE,
    check=_check,
    options={"driver": _DRIVER, **OPTIONS, **MIGRATION_OPTIONS},
)
async def device_unplug(trial: Trial) -> Judgement:
    """Does the guest release a device of any kind when asked?"""
    devices, added = await _starting_state(trial)
    migration = Migration(trial)
    await migration.before(*added)
    asked = [device for device in devices if _is_asked_for(device, devices)]
    pci = next((each for each in asked if bus_kind(each.driver) is BusKind.PCI), None)
    control = await read_control(trial.guest, pci) if pci else None
    others = [each for each in devices if bus_kind(each.driver) is not BusKind.PCI]
    elsewhere = {each.id: await place_in_guest(trial.guest.machine, each) for each in others}
    load = await start_load(trial, *(each for each in _cold(trial.spec, trial.options) if each not in others))
    await load.mark()
    trial.stimulus(f"device_del {' '.join(device.id for device in asked)}")
    results = await _removed(trial, devices, asked, elsewhere, migration.pending(*added))
    stays = any(each.outcome in _STAYING for each in results if each.device_id == load.subject)
    judgement = migration.told(await _judged(trial, results, control))
    return await load.judged(judgement, Fate.STAYS if stays else Fate.GONE)


async def _removed(
    trial: Trial,
    devices: Sequence[Device],
    asked: Sequence[Device],
    elsewhere: Mapping[str, Place],
    then: Callable[[], Awaitable[None]] | None,
) -> list[Unplugged]:
    """Request the removal of devices, do what comes `then`, and watch them; if QEMU refuses one, report only that."""
    ids = [device.id for device in devices]
    async with removal(trial.guest, *ids, seconds=trial.deadline, elsewhere=elsewhere) as going:
        async with trial.guest.stopped() if then else contextlib.nullcontext():
            for device in asked:
                if refusal := await going.ask(device.id):
                    return [refused(device.id, refusal, going.limit.started)]
            if then:
                await then()
        return await going.over()


async def _judged(trial: Trial, results: Sequence[Unplugged], control: HotplugControl | None) -> Judgement:
    """Judge what became of one device, or of several together."""
    left = [each for each in results if each.outcome is not UnplugOutcome.DELETED]
    judged = (left or results)[0]
    judgement = await judge_unplug(trial, judged, control)
    if len(results) == 1:
        return judgement
    whole = f"{len(left)} of {len(results)} devices stayed" if left else f"all {len(results)} devices went"
    findings = (*findings_of(results), *judgement.findings[len(judged.findings) :])
    return judgement.model_copy(update={"findings": findings, "reason": f"{whole}: {judgement.reason}"})


def _cold(spec: MachineSpec, options: Mapping[str, Any]) -> list[Device]:
    """Return the machine's own devices that are meant; none if some have to be added."""
    if options["behind"] or options["properties"] or options["functions"] > 1:
        return []
    own = [device for device in spec.devices if device.id.startswith("dev")]
    if options["driver"]:
        kinds = {kind.name: kind.driver for kind in KINDS}
        driver = kinds.get(options["driver"], options["driver"])
        own = [device for device in own if device.driver in (driver, f"{driver}-pci")]
    if options["slot"]:
        own = [device for device in own if options["slot"] in (device.bus, f"{device.bus}:{device.addr}")]
    return own[: options["count"]] if len(own) >= options["count"] else []


async def _starting_state(trial: Trial) -> tuple[list[Device], list[DeviceParts]]:
    """Return the devices that are to go, proven to work, and those of them that had to be added first."""
    if own := _cold(trial.spec, trial.options):
        for device in own:
            if bus_kind(device.driver) is not BusKind.PCI:
                await load_driver(trial, trial.spec.device(controller_of(device)))
            await load_driver(trial, device)
            await prove(trial, device)
        return own, []
    if not trial.options["driver"]:
        raise UnsupportedError(
            "the machine has no such device", hint="name a kind that can be added: -s driver=virtio-blk"
        )
    steps = choose(trial.spec, trial.guest.machine.qemu, trial.options)
    await make_ready(trial, steps)
    judgement = await plug_steps(trial, steps)
    if judgement.verdict is not Verdict.GOOD:
        await _raise_taken_away(trial, steps[0].parts.device, judgement)
        raise BrokenError(f"starting state: {steps[0].words}: {judgement.reason}")
    return [step.parts.device for step in steps], [step.parts for step in steps]


async def _raise_taken_away(trial: Trial, device: Device, judgement: Judgement) -> None:
    """Raise TakenAwayError if an option of the command line keeps devices from being added."""
    if judgement.outcome != "ignored" or bus_kind(device.driver) is not BusKind.PCI:
        return
    if lost := slot_taken_away(await read_control(trial.guest, device), "the device did not appear"):
        raise lost


def _is_asked_for(device: Device, devices: Sequence[Device]) -> bool:
    """Return whether a device's own removal is requested: what is behind a bridge goes with it, functions go with 0."""
    if any(device.bus == other.id for other in devices):
        return False
    return "." not in (device.addr or "") or (device.addr or "").endswith(".0")
