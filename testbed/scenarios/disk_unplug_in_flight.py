"""Scenario disk-unplug-in-flight."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from testbed.actions.unplug import UnplugOutcome, unplug
from testbed.guest.disk_writer import BLOCK, WriterReport, check_image, start_writers
from testbed.guest.hotplug_control import read_control
from testbed.machine.argv import disk_path
from testbed.model.device_kind import cold_parts
from testbed.model.errors import BrokenError, UnsupportedError
from testbed.model.outcome import Finding, Judgement, Verdict
from testbed.scenarios.hotplug_judgement import judge_unplug
from testbed.scenarios.scenario import scenario
from testbed.scenarios.starting_state import DISK_MODULES, cold_device

if TYPE_CHECKING:
    from collections.abc import Sequence

    from testbed.guest.disk_writer import DiskWriters
    from testbed.scenarios.trial import Trial

_WRITERS = 4
#: where they begin: the proof of life has written before that
_FIRST_BLOCK = 16
#: guest seconds of writing before the unplug
_BEFORE_SECONDS = 0.5
#: guest seconds in which a write must have failed once its disk is gone
_FAILED_SECONDS = 30


@scenario(modules=DISK_MODULES)
async def disk_unplug_in_flight(trial: Trial) -> Judgement:
    """Does the guest release a disk that is being written to, without losing an acknowledged write?"""
    device = await cold_device(trial, "disk")
    disk = cold_parts(trial.spec, device).disk
    if disk is None:
        raise UnsupportedError(f"{device.id} has no disk image behind it", hint="give it one: -p devices=virtio-blk")
    control = await read_control(trial.guest, device)
    blocks = (disk.size_mib << 20) // BLOCK - _FIRST_BLOCK
    writers = await start_writers(trial.guest, device.id, first=_FIRST_BLOCK, blocks=blocks, writers=_WRITERS)
    await trial.guest.shell.sleep(_BEFORE_SECONDS)
    if writers.ended:
        raise BrokenError(f"starting state: {device.id} cannot be written to: {(await writers.results())[0].error}")
    trial.stimulus(f"device_del {device.id}, with {_WRITERS} writers at work")
    result = await unplug(trial.guest, device.id, seconds=trial.deadline)
    judgement = await judge_unplug(trial, result, control)
    if not await _ended(trial, writers, gone=result.outcome is UnplugOutcome.DELETED):
        return _hung(judgement)
    written = await writers.results()
    image = await check_image(written, Path(disk_path(disk, trial.guest.machine.rundir)))
    return _judged(judgement, written, image, started=result.started)


async def _ended(trial: Trial, writers: DiskWriters, *, gone: bool) -> bool:
    """Wait until the writers have ended: by an error if their disk is gone, by a signal if it is not."""
    for _ in range(_FAILED_SECONDS):
        if not gone:
            await writers.stop()
        await trial.guest.shell.sleep(1)
        if writers.ended:
            return True
    return False


def _hung(judgement: Judgement) -> Judgement:
    finding = Finding(
        subject="writers",
        expected="an error from each write to a disk that is gone",
        observed=f"still waiting {_FAILED_SECONDS} s later",
        evidence="shell.jsonl",
    )
    update = {
        "verdict": Verdict.BAD,
        "outcome": "hung",
        "reason": f"writes hang for ever: {judgement.reason}",
        "findings": (*judgement.findings, finding),
    }
    return judgement.model_copy(update=update)


def _judged(judgement: Judgement, written: Sequence[WriterReport], image: Finding, *, started: float) -> Judgement:
    lost = "lost" in image.observed
    last = max(each.last for each in written)
    busy = Finding(
        subject="writers",
        expected="at work when the request came, then an error",
        observed=f"last one acknowledged {last - started:+.1f} s from the request; {written[0].error or 'told to end'}",
        evidence=written[0].evidence,
    )
    update: dict[str, object] = {
        "reason": f"{image.observed}; {judgement.reason}",
        "findings": (*judgement.findings, busy, image),
    }
    if lost:
        update |= {"verdict": Verdict.BAD, "outcome": "data-lost"}
    return judgement.model_copy(update=update)
