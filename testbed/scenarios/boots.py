"""Scenario boots: a disk's own loader, kernel, initrd and init, watched over the console alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.guest.console.own_boot import SILENT, follow_boot
from testbed.model.boot_stage import BootStage
from testbed.model.errors import BrokenError
from testbed.model.outcome import Finding, Judgement, Verdict
from testbed.model.parameter import Parameter
from testbed.scenarios.scenario import scenario

if TYPE_CHECKING:
    from testbed.guest.console.own_boot import OwnBoot
    from testbed.guest.shell import Result
    from testbed.scenarios.trial import Trial

#: seconds in which a guest should be at its login, slow as one is under TCG
_SECONDS = 300
#: lines before the words at which a boot stopped that a finding quotes
_LINES = 4


@scenario(
    by_loader=True,
    fresh=True,
    patience=_SECONDS,
    options={
        "entry": Parameter(type="int", default=0, min=0, max=99, doc="of the loader's menu, from 1; 0: its default"),
    },
)
async def boots(trial: Trial) -> Judgement:
    """How far does a disk boot with its own loader, and what stops it?"""
    machine = trial.guest.machine
    trial.stimulus("the disk's own loader boots it")
    boot = await follow_boot(machine, seconds=trial.deadline, entry=trial.options["entry"])
    judgement = _judgement(boot, BootStage.SHELL if machine.boot.login else BootStage.LOGIN)
    if boot.commands is None:
        return judgement
    line = await boot.commands.run("cat /proc/cmdline")
    return judgement.model_copy(update={"findings": (*judgement.findings, _line_finding(line, machine.boot.cmdline))})


def _line_finding(seen: Result, asked: str) -> Finding:
    """Return which line the kernel got; raise BrokenError if it is not one that ends with what was asked."""
    if not seen.text.endswith(f" {asked}" if asked else ""):
        raise BrokenError(f"boot loader: /proc/cmdline is {seen.text!r}, {asked!r} was to be added")
    return Finding(
        subject="kernel command line",
        expected=f"that of its entry, then {asked}" if asked else "that of its entry",
        observed=seen.text,
        evidence=seen.evidence,
    )


def _judgement(boot: OwnBoot, wanted: BootStage) -> Judgement:
    reached = [
        Finding(
            subject=each.stage.word,
            expected="reached",
            observed=f"after {each.seconds:.1f} s: {each.words}",
            evidence=each.evidence,
        )
        for each in boot.reached
    ]
    if not boot.stop:
        reason = f"reached its {wanted.word} after {boot.reached[-1].seconds:.1f} s"
        return Judgement(verdict=Verdict.GOOD, outcome=boot.stage.word, reason=reason, findings=tuple(reached))
    stop = Finding(subject=wanted.word, expected="reached", observed=_stop_text(boot), evidence=boot.evidence)
    came = f"came to {boot.stage.word} and no further" if boot.stage else "did not start"
    reason = f"{came}: {boot.stop}: {boot.words}"
    if boot.stop == SILENT:
        reason += "; a kernel speaks on the console that its command line names: console=ttyS0"
    return Judgement(
        verdict=Verdict.BROKEN if boot.stop == SILENT else Verdict.BAD,
        outcome=SILENT if boot.stop == SILENT else boot.stage.word,
        reason=reason,
        findings=(*reached, stop),
    )


def _stop_text(boot: OwnBoot) -> str:
    before = [line for line in boot.before if line != boot.words][-_LINES:]
    return f"{boot.stop}: {boot.words}" + (f"; before that: {' / '.join(before)}" if before else "")
