"""Scenario aer-recover."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.actions.aer import find_target
from testbed.actions.injection import Route
from testbed.scenarios.aer_judgement import (
    DEVICE_OPTION,
    ERROR_OPTIONS,
    chosen_device,
    inject_chosen,
    judge_recovery,
)
from testbed.scenarios.late_look import LATE_OPTION
from testbed.scenarios.load import start_load
from testbed.scenarios.load_kinds import Fate
from testbed.scenarios.migration import MIGRATION_OPTIONS, Migration, check_migration
from testbed.scenarios.scenario import LOADS, scenario
from testbed.scenarios.starting_state import chain, endpoints, prove_all

if TYPE_CHECKING:
    from testbed.model.outcome import Judgement
    from testbed.scenarios.trial import Trial


@scenario(
    loads=LOADS[1:],
    check=check_migration,
    options={"device": DEVICE_OPTION, **ERROR_OPTIONS, "seconds": LATE_OPTION, **MIGRATION_OPTIONS},
)
async def aer_recover(trial: Trial) -> Judgement:
    """Is the guest told of a PCIe error, does it recover, and does the device work afterwards?"""
    device = chosen_device(trial)
    await find_target(trial.guest, device)
    concerned = endpoints(trial.spec, below=device)
    await prove_all(trial, concerned)
    # a recovery is one of everything below the root port
    load = await start_load(trial, *concerned, *endpoints(trial.spec, below=chain(trial.spec, device)[-1]))
    await load.mark()
    migration = Migration(trial)
    await migration.before()
    injection = await inject_chosen(trial, device, then=migration.pending())
    migration.check_pending(by_qemu=injection.route is Route.QEMU)
    judgement = migration.told(await judge_recovery(trial, injection, concerned))
    return await load.judged(judgement, Fate.DISTURBED if injection.recovery else Fate.STAYS)
