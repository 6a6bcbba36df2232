"""A scenario for faults of a guest: a command is run before or after the stimulus, then the guest must still answer."""

from __future__ import annotations

from testbed.api import Finding, Judgement, Parameter, Trial, Verdict, scenario

_LINE = "a shell command in the guest"
OPTIONS = {
    "before": Parameter(type="str", default="true", doc=f"{_LINE}, while the starting state is proven"),
    "after": Parameter(type="str", default="true", doc=f"{_LINE}, after the stimulus"),
    "patience": Parameter(type="int", default=60, min=1, doc="wall seconds for each answer"),
}


@scenario(options=OPTIONS)
async def still_answers(trial: Trial) -> Judgement:
    """Does the guest still answer after this?"""
    shell, patience = trial.guest.shell, trial.options["patience"]
    await shell.run(trial.options["before"], patience=patience)
    trial.stimulus(trial.options["after"])
    await shell.run(trial.options["after"], patience=patience)
    answer = await shell.run("echo alive", patience=patience)
    finding = Finding(subject="echo", expected="alive", observed=answer.text, evidence=answer.evidence)
    good = answer.text == "alive"
    return Judgement(
        verdict=Verdict.GOOD if good else Verdict.BAD,
        outcome="answered" if good else "confused",
        reason=f"echo said {answer.text!r}",
        findings=(finding,),
    )
