"""Cell detail: what the HTML report shows of one opened cell, packed small.

Cells are packed in blocks, which a browser unpacks one at a time when one of its cells is opened. In a block each text
stands once: kernel logs of one kernel differ in their stamps, and hardly in their words. What a saved guest had logged
before it was saved is the same for every cell that resumed it, and is stored once too.
"""

from __future__ import annotations

import base64
import gzip
import json
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from testbed.campaign.record.evidence import quote_evidence
from testbed.campaign.record.timeline import Track, read_timeline
from testbed.report.axes import plain_value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from testbed.campaign.record.timeline import Entry
    from testbed.model.outcome import Outcome

#: cells in a block
BLOCK = 32
#: kernel records and other entries of a cell that are kept: so many of its begin, so many of its end
_HEAD, _TAIL = 500, 2500
TRACKS = tuple(Track)


class Block:
    """Some cells' details, packed together."""

    def __init__(self) -> None:
        self._texts: dict[str, int] = {}
        self._histories: dict[str, int] = {}
        self._cells: list[Any] = []

    def add(self, outcome: Outcome) -> None:
        """Take a cell, reading its rundir."""
        rundir = Path(outcome.rundir)
        entries = read_timeline(rundir)
        kernel = [entry for entry in entries if entry.track is Track.KERNEL]
        before = [entry for entry in kernel if entry.wall is None]
        since = [entry for entry in kernel if entry.wall is not None]
        others = [entry for entry in entries if entry.track is not Track.KERNEL]
        self._cells.append(
            {
                "facts": [[name, text] for name, value in _facts(outcome) if (text := plain_value(value))],
                "findings": [
                    [
                        finding.subject,
                        finding.expected,
                        finding.observed,
                        finding.evidence,
                        [[quote.reference, quote.text] for quote in quote_evidence(rundir, finding.evidence)],
                    ]
                    for finding in outcome.findings
                ],
                "history": self._history(before),
                "log": self._records(since),
                "lines": len(kernel),
                "entries": [self._entry(entry) for entry in _kept(others)],
                "left_out": len(others) - len(_kept(others)),
            }
        )

    def packed(self) -> str:
        """Return the block as base64 of gzip of JSON."""
        histories = [json.loads(history) for history in self._histories]
        value = {"texts": list(self._texts), "histories": histories, "cells": self._cells}
        data = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
        return base64.b64encode(gzip.compress(data, 6, mtime=0)).decode("ascii")

    def _text(self, text: str) -> int:
        return self._texts.setdefault(text, len(self._texts))

    def _history(self, records: Sequence[Entry]) -> int:
        packed = json.dumps(self._records(records))
        return self._histories.setdefault(packed, len(self._histories))

    def _records(self, records: Sequence[Entry]) -> dict[str, Any]:
        """Return kernel records column by column, numbers as differences from the one before."""
        kept = _kept(records)
        return {
            "line": _steps([int(entry.evidence.rpartition(":")[2]) for entry in kept]),
            "level": "".join(str(6 if entry.level is None else entry.level) for entry in kept),
            "stamp": _steps([round((entry.guest or 0) * 1e6) for entry in kept]),
            "wall": _steps([round((entry.wall or 0) * 1e3) for entry in kept]),
            "text": [self._text(entry.text) for entry in kept],
        }

    def _entry(self, entry: Entry) -> list[Any]:
        """Return one line of the timeline: wall and guest ms, whether measured, track, text, reference, stimulus."""
        return [
            round((entry.wall or 0) * 1e3, 1),
            None if entry.guest is None else round(entry.guest * 1e3),
            int(entry.measured),
            TRACKS.index(entry.track),
            self._text(entry.text),
            entry.evidence,
            int(entry.stimulus),
        ]


def _kept(entries: Sequence[Entry]) -> Sequence[Entry]:
    return entries if len(entries) <= _HEAD + _TAIL else [*entries[:_HEAD], *entries[-_TAIL:]]


def _steps(values: Sequence[int]) -> list[int]:
    return [*values[:1], *(after - before for before, after in pairwise(values))]


def _facts(outcome: Outcome) -> list[tuple[str, Any]]:
    """Return a cell's details in the order of its JSON, each key of a dict separately."""
    facts: list[tuple[str, Any]] = []
    for name, value in outcome.model_dump(mode="json", exclude={"findings"}).items():
        if isinstance(value, dict):
            facts += [(f"{name}.{key}", item) for key, item in value.items()]
        else:
            facts.append((name, value))
    return facts
