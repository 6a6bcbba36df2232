"""A bisect for people: the elements thinning out while it runs, and at its end what was found and why."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rich.console import Group
from rich.markup import escape
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from testbed.campaign.bisect.result import Answer, ElementState, Question, Subset
from testbed.report.live import LiveView

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

    from testbed.campaign.bisect.elements import Elements
    from testbed.campaign.bisect.oracle import Tried
    from testbed.campaign.bisect.result import SearchTrial
    from testbed.model.bisect import BisectReport, BisectSet

_ANSWERS = {Answer.GOOD: "green", Answer.BAD: "red", Answer.UNRESOLVED: "magenta"}
_STATES = {
    ElementState.UNKNOWN: "",
    ElementState.SUSPECT: "yellow",
    ElementState.CLEARED: "dim strike",
    ElementState.CULPRIT: "bold red",
    ElementState.ASIDE: "magenta strike",
}
_QUESTIONS = {
    Question.ALL: "end",
    Question.NONE: "end",
    Question.CUT: "cut",
    Question.EDGE: "again",
    Question.ONLY: "proof",
    Question.WITHOUT: "proof",
    Question.REST: "rest",
}
#: how many suspects are named where there is no terminal
_NAMED = 6
#: how many changes are shown; the first ones are those closest to the question
_ROWS = 20


class LiveBisect(LiveView[tuple[Subset, int]]):
    """Shows the progress of a bisect:  on a terminal the elements in colours, elsewhere a line for each trial."""

    def __init__(
        self, elements: Elements, console: Console, *, on_answer: Callable[[SearchTrial, Tried], None]
    ) -> None:
        super().__init__(console)
        self._elements = elements
        self._on_answer = on_answer  #: hears each trial's answer too
        self._states = (ElementState.UNKNOWN,) * len(elements)
        self._round = self._boots = 0
        self._waited = False
        self._began = time.monotonic()

    def note(self, text: str) -> None:
        """Say what a person should know."""
        self._console.print(f"[dim]{escape(text)}[/dim]", highlight=False, soft_wrap=True)

    def phase(self, subset: Subset, attempt: int, phase: str) -> None:
        """Show the phase of a running trial."""
        self._enters((subset, attempt), phase)
        if phase.startswith("waiting") and not self._waited and not self._in_place:
            self._waited = True
            self.note(f"{phase}: other runs have this host's")

    def asking(self, subset: Subset, question: Question) -> None:
        """Note that a trial starts; its phases say so."""

    def answered(self, trial: SearchTrial, tried: Tried) -> None:
        """Print what a trial said."""
        self._on_answer(trial, tried)
        self._running.pop((frozenset(trial.subset), trial.attempt), None)
        self._round, self._boots = trial.round, self._boots + (not tried.cached)
        colour = _ANSWERS[trial.answer]
        seconds = "made before" if tried.cached else f"{tried.outcome.wall_seconds:.1f} s" if tried.outcome else ""
        again = f", attempt {trial.attempt}" if trial.attempt > 1 else ""
        said = f": {tried.reason}" if trial.answer is Answer.UNRESOLVED else ""
        self._console.print(
            f"{trial.number:3} {_QUESTIONS[trial.question]:5} [{colour}]{trial.answer:10}[/{colour}] "
            f"{escape(self._elements.describe(frozenset(trial.subset)))}{again}{escape(said)} [dim]{seconds}[/dim]",
            highlight=False,
            soft_wrap=not self._in_place,
        )

    def states(self, states: tuple[ElementState, ...]) -> None:
        """Show what is known of each element now."""
        if states != self._states and not self._in_place:
            self._print_suspects(states)
        self._states = states

    def _print_suspects(self, states: tuple[ElementState, ...]) -> None:
        left = [name for name, state in zip(self._elements.names, states, strict=True) if state is ElementState.SUSPECT]
        if left:
            named = f": {' '.join(left)}" if len(left) <= _NAMED else f": {left[0]} … {left[-1]}"
            text = f"    {self._elements.counted(len(left))} under suspicion{named}"
            self._console.print(escape(text), highlight=False, soft_wrap=True)

    def __rich__(self) -> Group:
        """Return what is shown in place: the elements in the colours of their states, and the running trials."""
        now = time.monotonic()
        line = Text(" ").join(
            Text(name, style=_STATES[state]) for name, state in zip(self._elements.names, self._states, strict=True)
        )
        counts = f"round {self._round}, {self._boots} boots, {now - self._began:.0f} s"
        rows = [
            Spinner("dots", Text(f"{self._elements.describe(subset)}: {phase}, {now - started:.0f} s"))
            for (subset, _), (phase, started) in list(self._running.items())  # drawn by a thread
        ]
        return Group(Text(counts, style="bold"), line, _legend(), *rows)


def print_bisect(report: BisectReport, console: Console) -> None:
    """Print what was found, the proof, the remedy ready to be pasted, and what the set changed in the guest."""
    cached = sum(trial.cached for trial in report.trials)
    kept = f", {_counted(cached, 'trial')} made before" if cached else ""
    made = f"{_counted(len(report.trials), 'trial')} in {_counted(report.rounds, 'round')}"
    _line(console, f"[bold]{made}: {_counted(report.boots, 'boot')}{kept}, {report.seconds:.1f} s[/bold]")
    for found in report.sets:
        _print_set(found, report, console)
    if report.remedy is not None:
        _print_remedy(report, report.remedy, console)
    for each in report.aside:
        _line(console, f"[magenta]set aside[/magenta] {escape(each.element)}: {escape(each.reason)}")
    for note in report.notes:
        _line(console, f"[yellow]note[/yellow] {escape(note)}")
    for flaky in report.disagreements:
        _line(
            console, f"[yellow]flaky[/yellow] {escape(' '.join(flaky.elements) or 'none')}: {' '.join(flaky.answers)}"
        )
    if report.incomplete:
        _line(console, f"[yellow]not proven[/yellow] {escape(report.incomplete)}")
        _line(console, f"[yellow]open[/yellow] {escape(' '.join(report.candidates))}")


def _print_set(found: BisectSet, report: BisectReport, console: Console) -> None:
    console.print()
    names = escape(" ".join(found.elements))
    turned = "bad" if report.goal == "culprit" else "good"
    colour = "red" if report.goal == "culprit" else "green"
    _line(
        console,
        f"[bold {colour}]{report.goal}[/bold {colour}] [bold]{names}[/bold]: {_proof(found, turned, report.modelled)}",
    )
    _line(console, f"  {escape(found.reason)}")
    for why in found.why:
        _line(console, f"  {escape(why)}")
    if found.changes:
        console.print(_changes(found))
    _line(console, "  [dim]to reproduce:[/dim]")
    _line(console, f"  {escape(found.command)}")


def _proof(found: BisectSet, turned: str, modelled: str) -> str:
    other = {"bad": "good", "good": "bad"}[turned]
    each = "it" if len(found.elements) == 1 else "any one of them"
    only = "it" if len(found.elements) == 1 else "them"
    if found.proven:
        # what a model was defined to do is not found out by watching it
        proof = "[cyan]by the model's definition[/cyan]" if modelled else "[green]proven[/green]"
        return f"{proof}, {turned} with only {only}, {other} without {each}"
    if not found.enough:
        return f"[yellow]not proven[/yellow], not {turned} with only {only} when tried again"
    needless = escape(" ".join(found.unsettled))
    return f"[yellow]not proven[/yellow], {turned} with only {only}; perhaps not needed: {needless}"


def _changes(found: BisectSet) -> Table:
    table = Table(show_edge=False, pad_edge=True, expand=True)
    several = len(found.elements) > 1
    table.add_column("seen in the guest", overflow="fold", ratio=3)
    table.add_column("with only them" if several else "with only it", overflow="fold", ratio=6)
    table.add_column(f"without {escape(found.compared)}" if several else "without it", overflow="fold", ratio=6)
    for change in found.changes[:_ROWS]:
        table.add_row(escape(change.subject), escape(change.with_set), escape(change.without))
    if len(found.changes) > _ROWS:
        table.add_row(f"[dim]and {len(found.changes) - _ROWS} more in bisect.json[/dim]")
    return table


def _print_remedy(report: BisectReport, remedy: str, console: Console) -> None:
    console.print()
    if report.over == "cmdline":
        _line(
            console,
            "[bold green]good[/bold green], the command line to paste:"
            if remedy
            else "[bold green]good[/bold green] with an empty command line",
        )
    else:
        _line(console, "[bold green]good[/bold green], as options of testbed run:")
    if remedy:
        _line(console, escape(remedy))
    console.print()


def _counted(number: int, noun: str) -> str:
    return f"1 {noun}" if number == 1 else f"{number} {noun}s"


def _legend() -> Text:
    parts = [Text(str(state), style=_STATES[state]) for state in ElementState]
    return Text("  (", style="dim") + Text(", ").join(parts) + Text(")", style="dim")


def _line(console: Console, markup: str) -> None:
    """Print one line that can be pasted whole."""
    console.print(markup, highlight=False, soft_wrap=True)
