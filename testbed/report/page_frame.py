"""The frame of the HTML pages: each is one file that needs no network; its policy lets no other script or style run."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

_FOLDER = Path(__file__).parent / "page"


def render_page(template: str, *, script: str = "", **values: Any) -> str:
    """Return a page of the folder `page`, in the style that all share; with a script, if it is given the name of one.

    Values are text: whatever a guest or a case says, none of it is markup.
    """
    environment = Environment(loader=FileSystemLoader(_FOLDER), autoescape=True, undefined=StrictUndefined)
    style = (_FOLDER / "page.css").read_text(encoding="utf-8")
    code = (_FOLDER / script).read_text(encoding="utf-8") if script else ""
    return environment.get_template(template).render(
        style=Markup(style),
        script=Markup(code),
        policy=Markup("; ".join(_policy(style, code))),
        **values,
    )


def _policy(style: str, script: str) -> list[str]:
    sources = ["default-src 'none'", f"style-src '{_hash(style)}'"]
    sources += [f"script-src '{_hash(script)}'"] if script else []
    return [*sources, "base-uri 'none'", "form-action 'none'"]


def _hash(text: str) -> str:
    """Return the source expression that allows this script or style (CSP level 2)."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
