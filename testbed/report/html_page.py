"""The HTML report: one file that needs no network, with the cells as a heat map and everything behind each of them.

What comes from a guest is data, never markup: the summary is JSON with `<` escaped, the details are base64, the script
makes text nodes of both, and the page's policy lets no other script or style run.
"""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any

from testbed import __version__
from testbed.campaign.record.timeline import Track
from testbed.model.outcome import Verdict
from testbed.report.axes import find_axes
from testbed.report.cell_detail import BLOCK, Block
from testbed.report.page_frame import render_page

if TYPE_CHECKING:
    from collections.abc import Sequence

    from testbed.model.outcome import Outcome


def html_page(outcomes: Sequence[Outcome]) -> str:
    """Return the page of these cells; their rundirs are read."""
    return render_page(
        "page.html.j2",
        script="page.js",
        summary=_summary(outcomes),
        blocks=[_packed(outcomes[start : start + BLOCK]) for start in range(0, len(outcomes), BLOCK)],
    )


def _packed(outcomes: Sequence[Outcome]) -> str:
    block = Block()
    for outcome in outcomes:
        block.add(outcome)
    return block.packed()


def _summary(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Return what the heat map needs."""
    axes = find_axes(outcomes)
    verdicts = tuple(Verdict)
    return {
        "made": datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        "version": __version__,
        "verdicts": verdicts,
        "tracks": tuple(Track),
        "block": BLOCK,
        "common": axes.common,
        "axes": [{"name": axis.name, "values": axis.values, "places": axis.places} for axis in axes.differing],
        "cells": [
            [
                verdicts.index(outcome.verdict),
                None if outcome.expected is None else outcome.disagreement,
                outcome.outcome,
                outcome.reason,
                outcome.id,
                outcome.guest_seconds,
                round(outcome.wall_seconds, 1),
            ]
            for outcome in outcomes
        ],
    }
