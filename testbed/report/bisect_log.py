"""The log of a bisect as text: each trial as a command that can be run again, in the manner of `git bisect log`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.campaign.bisect.elements import run_command

if TYPE_CHECKING:
    from testbed.campaign.bisect.elements import Elements
    from testbed.campaign.bisect.oracle import Tried
    from testbed.campaign.bisect.result import SearchTrial
    from testbed.model.bisect import BisectReport, BisectSet


def log_head(command: str, elements: Elements) -> str:
    """Return the log's first lines: the command, and what is searched among."""
    names = "".join(f"#   {name}\n" for name in elements.names)
    aside = "".join(f"# set aside: {each.name}: {each.reason}\n" for each in elements.aside)
    return f"{command}\n# among {elements.counted(len(elements))}:\n{names}{aside}"


def log_trial(elements: Elements, trial: SearchTrial, tried: Tried) -> str:
    """Return a trial's lines."""
    kept = ", made before" if tried.cached else ""
    question = f"{trial.question}, round {trial.round}{kept}"
    what = elements.describe(frozenset(trial.subset))
    return f"# {trial.answer}: [{trial.number}] {what} ({question})\n#   {tried.reason}\n{run_command(tried.cell)}\n"


def log_end(report: BisectReport) -> str:
    """Return the last lines: the answer."""
    sets = [f"# {report.goal}{_proof(found, report)}: {' '.join(found.elements)}" for found in report.sets]
    remedy = [] if report.remedy is None else [f"# good: {report.remedy}"]
    aside = [f"# set aside: {each.element}: {each.reason}" for each in report.aside]
    open_ = [f"# not settled: {' '.join(report.candidates)}: {report.incomplete}"] if report.incomplete else []
    return "\n".join([*sets, *remedy, *aside, *open_]) + "\n"


def _proof(found: BisectSet, report: BisectReport) -> str:
    if not found.proven:
        return " (not proven)"
    return " (by the model's definition)" if report.modelled else " (proven)"
