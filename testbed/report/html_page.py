"""The HTML report: one file that needs no network, with the cells as a heat map and everything behind each of them.

What comes from a guest is data, never markup: the summary is JSON with `<` escaped, the details are base64, the script
makes text nodes of both, and the page's policy lets no other script or style run.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from testbed import __version__
from testbed.campaign.record.timeline import Track
from testbed.model.outcome import Verdict
from testbed.report.axes import find_axes
from testbed.report.cell_detail import BLOCK, Block

if TYPE_CHECKING:
    from collections.abc import Sequence

    from testbed.model.outcome import Outcome

_FOLDER = Path(__file__).parent / "page"


def html_page(outcomes: Sequence[Outcome]) -> str:
    """Return the page of these cells; their rundirs are read."""
    environment = Environment(loader=FileSystemLoader(_FOLDER), autoescape=True, undefined=StrictUndefined)
    style, script = ((_FOLDER / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    return environment.get_template("page.html.j2").render(
        style=Markup(style),
        style_hash=_hash(style),
        script=Markup(script),
        script_hash=_hash(script),
        summary=_summary(outcomes),
        blocks=[_packed(outcomes[start : start + BLOCK]) for start in range(0, len(outcomes), BLOCK)],
    )


def _hash(text: str) -> str:
    """Return the source expression that allows this script or style (CSP level 2)."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


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
