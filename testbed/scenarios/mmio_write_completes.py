"""Scenario mmio-write-completes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.model.mmio_record import Direction
from testbed.scenarios.mmio_choice import OPTIONS
from testbed.scenarios.mmio_judgement import ACCESS_PATIENCE, judge_access
from testbed.scenarios.scenario import scenario

if TYPE_CHECKING:
    from testbed.model.outcome import Judgement
    from testbed.scenarios.trial import Trial


@scenario(patience=ACCESS_PATIENCE, options=OPTIONS)
async def mmio_write_completes(trial: Trial) -> Judgement:
    """Does a write of a device register complete?"""
    return await judge_access(trial, Direction.WRITE)
