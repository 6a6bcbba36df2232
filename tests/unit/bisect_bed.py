"""A bed on paper: cells answered by a rule, for what real guests cannot be made to do on demand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from testbed.campaign.bisect.over_given import options_of
from testbed.campaign.bisect.run import Bisected, Way, bisect
from testbed.model.outcome import Cell, Finding, Outcome, Verdict

from . import outcomes

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from testbed.campaign.bisect.elements import Elements
    from testbed.campaign.bisect.oracle import Tried
    from testbed.campaign.bisect.result import ElementState, Question, SearchTrial, Subset

#: a verdict and its outcome's word
Said = tuple[Verdict, str]
Rule = Callable[[Cell], Said]
GOOD: Said = (Verdict.GOOD, "deleted")
BAD: Said = (Verdict.BAD, "ignored")
NO_BOOT: Said = (Verdict.BROKEN, "no-boot")


def outcome(cell: Cell, said: Said, rundir: Path) -> Outcome:
    verdict, word = said
    finding = Finding(subject="QMP event", expected="DEVICE_DELETED", observed=word, evidence="qmp.jsonl:7")
    return outcomes.outcome(
        verdict,
        id=cell.id,
        scenario=cell.scenario,
        machine=cell.machine,
        parameters={"memory": 512, **cell.parameters},
        cmdline=cell.cmdline,
        kernel_cmdline=f"console=ttyS0 {cell.cmdline}",
        image="debian 0123456789ab",
        qemu="qemu 7.2",
        outcome=word,
        role=cell.role,
        reason=f"the guest: {word}",
        findings=(finding,),
        rundir=str(rundir),
    )


@dataclass
class PaperBed:
    """Runs cells by a rule, and notes them."""

    rule: Rule
    ran: list[Cell] = field(default_factory=list)

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Stand in for what prepares and runs cells."""
        module = "testbed.campaign.bisect.oracle"
        monkeypatch.setattr(f"{module}.prepare_cell", self._prepare)
        monkeypatch.setattr(f"{module}.run_cell", self._run)
        monkeypatch.setattr("testbed.campaign.bisect.run.prepare_cell", self._prepare)

    def _prepare(self, cell: Cell, *, progress: Callable[[str], None]) -> Any:
        return SimpleNamespace(cell=cell)

    async def _run(self, prepared: Any, *, rundir: Path, progress: Callable[[str], None], **_: Any) -> Outcome:
        progress("booting")
        self.ran.append(prepared.cell)
        await asyncio.sleep(0)
        return outcome(prepared.cell, self.rule(prepared.cell), rundir)


@dataclass
class Notes:
    """An observer that remembers."""

    notes: list[str] = field(default_factory=list)
    answers: list[tuple[SearchTrial, Tried]] = field(default_factory=list)
    phases: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        self.notes.append(text)

    def phase(self, subset: Subset, attempt: int, phase: str) -> None:
        self.phases.append(phase)

    def asking(self, subset: Subset, question: Question) -> None:
        assert question

    def answered(self, trial: SearchTrial, tried: Tried) -> None:
        self.answers.append((trial, tried))

    def states(self, states: tuple[ElementState, ...]) -> None:
        assert states


def cell(cmdline: str = "", **given: Any) -> Cell:
    return Cell(**{"scenario": "disk-unplug", "machine": "q35", "cmdline": cmdline, **given})


def with_options(*names: str) -> Rule:
    """Return a rule: bad with all of these options."""
    return lambda each: BAD if set(names) <= set(each.cmdline.split()) else GOOD


def run(elements: Elements | str, rundir: Path, *, notes: Notes | None = None, **way: Any) -> Bisected:
    """Bisect, the parts of a line if only that is given; in a rundir that was used before it goes on."""
    searched = options_of(cell(elements)) if isinstance(elements, str) else elements
    return asyncio.run(bisect(searched, Way(**way), rundir=rundir, observer=notes or Notes()))
