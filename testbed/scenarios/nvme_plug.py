"""Scenario nvme-plug."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.scenarios.nic_plug import plugged_and_judged
from testbed.scenarios.scenario import scenario

if TYPE_CHECKING:
    from testbed.model.outcome import Judgement
    from testbed.scenarios.trial import Trial


@scenario(warp_safe=True)
async def nvme_plug(trial: Trial) -> Judgement:
    """Does an NVMe disk that is added while the guest runs appear and work?"""
    return await plugged_and_judged(trial, "nvme")
