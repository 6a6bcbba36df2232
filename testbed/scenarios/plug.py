"""Scenarios disk-plug, nic-plug and nvme-plug: a device of a kind is added to the first free slot."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.actions.hotplug import plug
from testbed.guest.hotplug_control import read_control
from testbed.model.device_kind import hot_device, kinds_of
from testbed.model.parameter import Parameter
from testbed.scenarios.hotplug_judgement import judge_plug
from testbed.scenarios.load import start_load
from testbed.scenarios.load_kinds import Fate
from testbed.scenarios.migration import MIGRATION_OPTIONS, Migration, check_migration
from testbed.scenarios.scenario import LOADS, PATIENCE, scenario
from testbed.scenarios.starting_state import DISK_MODULES, load_driver
from testbed.scenarios.trial import free_slot

if TYPE_CHECKING:
    from testbed.model.outcome import Judgement
    from testbed.scenarios.trial import Trial

_DISKS, _CARDS = ([kind.name for kind in kinds_of(proof)] for proof in ("disk", "nic"))


@scenario(
    modules=DISK_MODULES,
    warp_safe=True,
    patience=PATIENCE,
    loads=LOADS[1:],
    check=check_migration,
    options={
        "disk": Parameter(type="str", default=_DISKS[0], choices=_DISKS, doc="the disk that is added"),
        **MIGRATION_OPTIONS,
    },
)
async def disk_plug(trial: Trial) -> Judgement:
    """Does a hot-plugged disk appear and work?"""
    return await _plug_first(trial, trial.options["disk"])


@scenario(
    warp_safe=True,
    patience=PATIENCE,
    loads=LOADS[1:],
    check=check_migration,
    options={
        "card": Parameter(type="str", default=_CARDS[0], choices=_CARDS, doc="the card that is added"),
        **MIGRATION_OPTIONS,
    },
)
async def nic_plug(trial: Trial) -> Judgement:
    """Does a hot-plugged network card appear and pass frames?"""
    return await _plug_first(trial, trial.options["card"])


@scenario(loads=LOADS[1:], warp_safe=True, patience=PATIENCE, check=check_migration, options=MIGRATION_OPTIONS)
async def nvme_plug(trial: Trial) -> Judgement:
    """Does a hot-plugged NVMe disk appear and work?"""
    return await _plug_first(trial, "nvme")


async def _plug_first(trial: Trial, kind: str) -> Judgement:
    slot = free_slot(trial.spec)
    parts = hot_device(kind, slot)
    await load_driver(trial, parts.device)
    control = await read_control(trial.guest, slot)
    load = await start_load(trial)
    await load.mark()
    migration = Migration(trial)
    await migration.before()
    trial.stimulus(f"device_add {parts.device.driver} {parts.device.id} on {slot.bus}")
    result = await plug(trial.guest, parts, seconds=trial.deadline, then=migration.pending(parts))
    judgement = migration.told(await judge_plug(trial, result, control, parts.device))
    return await load.judged(judgement, Fate.STAYS)
