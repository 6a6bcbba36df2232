"""Scenarios disk-unplug, nic-unplug and nvme-unplug: the first cold-plugged device of a kind is asked to go."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.actions.unplug import UnplugOutcome, unplug
from testbed.guest.hotplug_control import read_control
from testbed.scenarios.hotplug_judgement import judge_unplug
from testbed.scenarios.load import start_load
from testbed.scenarios.load_kinds import Fate
from testbed.scenarios.migration import MIGRATION_OPTIONS, Migration, check_migration
from testbed.scenarios.scenario import LOADS, PATIENCE, scenario
from testbed.scenarios.starting_state import DISK_MODULES, cold_device

if TYPE_CHECKING:
    from testbed.model.outcome import Judgement
    from testbed.scenarios.trial import Trial


@scenario(
    loads=LOADS[1:],
    modules=DISK_MODULES,
    warp_safe=True,
    patience=PATIENCE,
    check=check_migration,
    options=MIGRATION_OPTIONS,
)
async def disk_unplug(trial: Trial) -> Judgement:
    """Does the guest release a disk when asked?"""
    return await _unplug_first(trial, "disk")


@scenario(loads=LOADS[1:], warp_safe=True, patience=PATIENCE, check=check_migration, options=MIGRATION_OPTIONS)
async def nic_unplug(trial: Trial) -> Judgement:
    """Does the guest release a network card when asked?"""
    return await _unplug_first(trial, "nic")


@scenario(loads=LOADS[1:], warp_safe=True, patience=PATIENCE, check=check_migration, options=MIGRATION_OPTIONS)
async def nvme_unplug(trial: Trial) -> Judgement:
    """Does the guest release an NVMe disk when asked?"""
    return await _unplug_first(trial, "nvme")


async def _unplug_first(trial: Trial, kind: str) -> Judgement:
    device = await cold_device(trial, kind)
    control = await read_control(trial.guest, device)
    load = await start_load(trial, device)
    await load.mark()
    migration = Migration(trial)
    await migration.before()
    trial.stimulus(f"device_del {device.id}")
    result = await unplug(trial.guest, device.id, seconds=trial.deadline, then=migration.pending())
    judgement = migration.told(await judge_unplug(trial, result, control))
    stays = result.outcome in (UnplugOutcome.IGNORED, UnplugOutcome.REFUSED, UnplugOutcome.BUSY)
    return await load.judged(judgement, Fate.STAYS if stays else Fate.GONE)
