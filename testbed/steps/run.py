"""Take the steps of a scenario with a guest, and judge what comes of them.

What goes wrong before the stimulus is broken, from it on bad; its outcome is a word for what was not as expected, or
the action's own (`ignored`, `refused`, …). Crashes, and what ends a machine, are for the caller to rule on.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from testbed.guest.deadline import deadline
from testbed.guest.shell import PATIENCE, Result
from testbed.model.errors import InputError, RefusedError, TakenAwayError
from testbed.model.outcome import Finding, Judgement, Verdict
from testbed.steps.condition import shortened
from testbed.steps.scene import Said, Scene, StoppedError
from testbed.steps.step import Expect, Line, Repeat, Wait
from testbed.steps.taken_away import taken_away
from testbed.verbs.verbs import Verbs

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from testbed.guest.guest import Guest
    from testbed.steps.condition import Condition, Seen
    from testbed.steps.file import StepFile
    from testbed.steps.step import Step
    from testbed.verbs.answer import Answer

T = TypeVar("T")

#: host seconds between two looks of a wait that counts them
_LOOK_SECONDS = 0.2

#: outcomes: all came as expected; or what did not
AS_EXPECTED = "as-expected"
NOT_SEEN, UNWANTED, TIMED_OUT = "not-seen", "unwanted", "timed-out"
NOT_REFUSED, REFUSED_OTHERWISE, STOPPED, FAILED = "not-refused", "refused-otherwise", "stopped", "failed"


class UnmetError(Exception):
    """Says that a step did not come out as it must."""

    def __init__(self, outcome: str, step: Line | Wait | Expect, finding: Finding) -> None:
        super().__init__(outcome)
        self.outcome = outcome
        self.step = step
        self.finding = finding


@dataclass(kw_only=True)
class _Run:
    """One run of a file."""

    verbs: Verbs
    scene: Scene
    tell_stimulus: Callable[[str], None]
    progress: Callable[[str], None]
    findings: list[Finding] = field(default_factory=list)
    asked: float | None = None  #: guest seconds at the stimulus
    answered: float | None = None  #: at the latest wait's end after it

    async def take(self, steps: Sequence[Step]) -> None:
        """Take steps one after the other; raise UnmetError at the first that does not come out as it must."""
        for step in steps:
            if isinstance(step, Repeat):
                for _ in range(step.count):
                    await self.take(step.steps)
            else:
                await self._take(step)

    async def _take(self, step: Line | Wait | Expect) -> None:
        self.progress(f"{step.where} {step.subject}")
        if isinstance(step, Line):
            await self._obey(step)
        elif isinstance(step, Expect):
            await self._expect(step)
        else:
            await self._wait(step)

    # -- lines --

    async def _obey(self, step: Line) -> None:
        await self.scene.note_places()
        if step.stimulus and self.asked is None:
            await self.scene.hear_kernel()
            self.scene.begin_anew()
            self.asked = self.scene.guest.shell.seconds
            self.tell_stimulus(step.text)
        try:
            answer = await self.verbs.obey(step.text)
        except RefusedError as refusal:
            self.scene.last = Said(text=refusal.description, evidence=refusal.evidence)
            self._failed(step, outcome="refused")
            return
        except InputError as error:
            raise InputError(f"{step.where}: {error.message}", hint=error.hint) from None
        self.scene.last = self._said(answer)
        if answer.ok:
            self._succeeded(step, answer)
        else:
            self._failed(step, outcome=answer.outcome or FAILED, findings=answer.findings)

    def _said(self, answer: Answer) -> Said:
        if answer.findings:
            return Said(text=answer.text, evidence=answer.findings[-1].evidence)
        evidence = answer.value.evidence if isinstance(answer.value, Result) else self.scene.last_reply
        return Said(text=answer.text, evidence=evidence)

    def _succeeded(self, step: Line, answer: Answer) -> None:
        if step.fails is None:
            self._witness(step, answer.findings)
        else:
            raise UnmetError(NOT_REFUSED, step, self._finding(step, f"to fail: {step.fails.pattern!r}", "it succeeded"))

    def _failed(self, step: Line, *, outcome: str, findings: Sequence[Finding] = ()) -> None:
        words = shortened(self.scene.last.text) or outcome
        self._witness(step, findings)
        if step.fails is None:
            raise UnmetError(outcome, step, self._finding(step, "to succeed", words))
        finding = self._finding(step, f"to fail: {step.fails.pattern!r}", words)
        if not step.fails.search(self.scene.last.text):
            raise UnmetError(REFUSED_OTHERWISE, step, finding)
        self._note(finding)

    # -- conditions --

    async def _expect(self, step: Expect) -> None:
        seen = await self._look(step, step.condition)
        finding = self._finding(step, f"{'' if step.wanted else 'not: '}{step.condition}", seen.observed, seen.evidence)
        if seen.holds is not step.wanted:
            raise UnmetError(NOT_SEEN if step.wanted else UNWANTED, step, finding)
        self._note(finding)

    async def _wait(self, step: Wait) -> None:
        shell = self.scene.guest.shell
        if step.condition is None:
            if step.of_host:
                await asyncio.sleep(step.seconds)
                return
            await self._guarded(step, self.scene.check_running())
            await shell.sleep(step.seconds)
            return
        self.scene.consuming = True
        try:
            seen = await self._await_condition(step, step.condition)
        finally:
            self.scene.consuming = False
        observed = seen.observed if seen.holds else f"{seen.observed} within {step.span}"
        finding = self._finding(step, str(step.condition), observed, seen.evidence)
        self.answered = shell.seconds
        if not seen.holds:
            raise UnmetError(TIMED_OUT, step, finding)
        self._note(finding)

    async def _await_condition(self, step: Wait, condition: Condition) -> Seen:
        """Look until a condition holds, or its time is over; the latest look counts."""
        seen = await self._look(step, condition)
        if step.of_host:
            loop = asyncio.get_running_loop()
            end = loop.time() + step.seconds
            while not seen.holds and loop.time() < end:
                await asyncio.sleep(_LOOK_SECONDS)
                seen = await self._look(step, condition)
            return seen
        if seen.holds:
            return seen
        await self._guarded(step, self.scene.check_running())

        async def holds() -> bool:
            nonlocal seen
            seen = await self._look(step, condition)
            return seen.holds

        with self.scene.guest.machine.qmp.listen("STOP") as stopped:
            async with deadline(self.scene.guest, step.seconds) as limit:
                # a guest that is stopped meanwhile would never say that its time is over
                await _first(limit.until(holds), stopped.wait())
        if not seen.holds:
            seen = await self._look(step, condition)
        return seen

    async def _look(self, step: Wait | Expect, condition: Condition) -> Seen:
        return await self._guarded(step, condition.look(self.scene))

    async def _guarded(self, step: Wait | Expect, awaitable: Awaitable[T]) -> T:
        """Wait for a look; raise UnmetError if the machine is stopped and the guest would have to answer."""
        try:
            return await awaitable
        except StoppedError as error:
            finding = self._finding(step, "a guest that runs", error.message, error.evidence)
            raise UnmetError(STOPPED, step, finding) from None

    # -- findings --

    def _finding(self, step: Line | Wait | Expect, expected: str, observed: str, evidence: str = "") -> Finding:
        evidence = evidence or self.scene.last.evidence
        return Finding(subject=f"{step.where} {step.subject}", expected=expected, observed=observed, evidence=evidence)

    def _note(self, finding: Finding) -> None:
        """Keep what was found once the stimulus was given: the starting state's findings count if they are wrong."""
        if self.asked is not None:
            self.findings.append(finding)

    def _witness(self, step: Line, findings: Sequence[Finding]) -> None:
        """Keep what an action's witnesses saw."""
        for each in findings:
            self._note(each.model_copy(update={"subject": f"{step.where} {each.subject}"}))

    @property
    def took(self) -> float | None:
        """Return the guest seconds from the stimulus to the last answer that was waited for."""
        if self.asked is None or self.answered is None or self.answered < self.asked:
            return None
        return round(self.answered - self.asked, 3)


async def _first(*waits: Awaitable[object]) -> None:
    """Wait until one of them has ended, and drop the others."""
    tasks = [asyncio.ensure_future(each) for each in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            if task.done():
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def run_steps(
    file: StepFile,
    guest: Guest,
    values: Mapping[str, Any],
    *,
    tell_stimulus: Callable[[str], None],
    progress: Callable[[str], None],
) -> Judgement:
    """Take the steps of a file, with these values of its options, and judge what came of them.

    Raises InputError for a line that cannot be obeyed, TakenAwayError for a starting state that the command line took
    away, and what ended the guest or the machine.
    """
    steps = file.steps(values)
    verbs = Verbs(guest.machine, guest, patience=PATIENCE)
    # the drivers of what was there at the boot are loaded, and saved with the guest
    await verbs.start(drivers=False, later=file.drivers)
    run = _Run(verbs=verbs, scene=Scene(guest=guest), tell_stimulus=tell_stimulus, progress=progress)
    try:
        await run.take(steps)
    except UnmetError as unmet:
        return await _unmet(run, unmet)
    last = run.findings[-1]
    return Judgement(
        verdict=Verdict.GOOD,
        outcome=AS_EXPECTED,
        reason=f"all as expected, finally {last.expected}",
        findings=tuple(run.findings),
        guest_seconds=run.took,
    )


async def _unmet(run: _Run, unmet: UnmetError) -> Judgement:
    """Judge what did not come out; raise TakenAwayError if the command line took the starting state away."""
    wrong, why = unmet.finding, await taken_away(run.scene, unmet.step)
    reached = run.asked is not None
    if why and not reached:
        raise TakenAwayError(f"{wrong.subject}: {why.lost}", why.options, evidence=why.evidence)
    reason = f"{wrong.subject}: expected {wrong.expected}; {wrong.observed}"
    findings = (*run.findings, wrong)
    if why:
        reason = f"{reason}: {why.message}"
        because = Finding(subject=f"{wrong.subject}: why", expected="-", observed=why.message, evidence=why.evidence)
        findings = (*findings, because)
    return Judgement(
        verdict=Verdict.BAD if reached else Verdict.BROKEN,
        outcome=unmet.outcome if reached else "broken",
        reason=reason,
        findings=findings,
        guest_seconds=run.took,
    )
