"""Scenario slow-flr: a function of the test bed's own, whose function-level reset takes its time or never ends."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from testbed.actions.sriov import reset_function
from testbed.guest.pci import address_of
from testbed.guest.shell import PATIENCE
from testbed.machine.played_config import PlayedConfig
from testbed.machine.withholding import withholding
from testbed.model.errors import BrokenError, UnsupportedError
from testbed.model.outcome import Finding, Judgement, Verdict
from testbed.model.parameter import Parameter
from testbed.scenarios.scenario import scenario
from testbed.scenarios.trial import free_slot

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from testbed.scenarios.trial import Trial

#: what a reset may take (PCIe Base 6.3, 6.6.2); Linux sleeps so long before it reads the function again
_ALLOWED_SECONDS = 0.1
#: guest seconds in which Linux gives up (drivers/pci/pci.c, pci_dev_wait()): it sleeps twice as long each time
_LINUX_GIVES_UP = 66.0
_APPEAR_SECONDS = 20.0


def _lasts(options: Mapping[str, Any]) -> float:
    return 5.0 + min(_seconds(options), _LINUX_GIVES_UP)


def _seconds(options: Mapping[str, Any]) -> float:
    """Return what the reset takes; infinity if it never ends."""
    return int(options["milliseconds"]) / 1000 or math.inf


@scenario(
    lasts=_lasts,
    options={
        "milliseconds": Parameter(
            type="int",
            default=3000,
            min=0,
            max=120_000,
            doc="how long the reset takes, by the host's clock; 0: for ever",
        )
    },
)
async def slow_flr(trial: Trial) -> Judgement:
    """Does a function come back from a function-level reset in the time that the specification allows?"""
    guest = trial.guest
    if guest.machine.warped:
        raise UnsupportedError(
            "the function's reset takes host time, which warped time does not count", hint="--time real"
        )
    seconds = _seconds(trial.options)
    config = PlayedConfig(flr_seconds=seconds)
    async with withholding(guest.machine, free_slot(trial.spec), config=config) as played:
        address = await address_of(guest.machine, played.device.id)
        if not (await guest.shell.wait_path(f"{address.sysfs}/reset", exists=True, seconds=_APPEAR_SECONDS)).came:
            raise BrokenError(f"starting state: {address} has no reset method")
        await guest.shell.catch_up()
        position = guest.shell.log.latest
        trial.modelled = f"the function: a reset of {seconds} s"
        trial.stimulus(f"echo 1 > {address.sysfs}/reset")
        written = await reset_function(guest, address, patience=PATIENCE + _LINUX_GIVES_UP)
        await guest.shell.catch_up()
        said = guest.shell.log.find(str(address), after=position)
    if config.resets == 0:
        raise BrokenError(f"{address} was not told to reset itself: {written.words or 'the write was taken'}")
    taken = written.finding(f"taken in {_ALLOWED_SECONDS} s")
    words = [
        Finding(subject="the kernel", expected="nothing", observed=each.text, evidence=each.reference) for each in said
    ]
    # not by how long the write took: a busy host makes that longer
    early = Finding(
        subject="the guest's reads during the reset",
        expected="none",
        observed=str(config.unanswered) if config.unanswered else "none",
        evidence=written.evidence,
    )
    outcome = "never" if not written.taken else "slow" if config.unanswered else "in-time"
    return Judgement(
        verdict=Verdict.GOOD if outcome == "in-time" else Verdict.BAD,
        outcome=outcome,
        reason=f"{taken.observed}; the kernel: {said[-1].text if said else 'nothing'}"
        if written.taken
        else written.words,
        findings=(taken, early, *words),
        guest_seconds=round(written.seconds, 3),
    )
