"""The reports that a command may leave beside its table: JUnit XML, an HTML page, a trace.

A command takes them in two lines: `files = ReportFiles(junit=junit, html=html, trace=trace)` before it runs anything,
which checks that they can be written, and `write_reports(files, outcomes)` after.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from testbed.cli.terminal import check_writable, write_text
from testbed.report.html_page import html_page
from testbed.report.junit_file import to_junit
from testbed.report.trace_file import to_trace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from testbed.model.outcome import Outcome


@dataclass(frozen=True, kw_only=True)
class ReportFiles:
    """Which reports are wanted, and where; raises InputError if one could not be written."""

    junit: Path | None = None
    html: Path | None = None
    trace: Path | None = None

    def __post_init__(self) -> None:
        for path in (self.junit, self.html, self.trace):
            if path is not None and path != Path("-"):
                check_writable(path)


def write_reports(files: ReportFiles, outcomes: Sequence[Outcome]) -> None:
    """Write the reports that are wanted; `-` is stdout."""
    for path, report in ((files.junit, to_junit), (files.html, html_page), (files.trace, to_trace)):
        if path is not None:
            write_text(report(outcomes), path)
