"""The HTML report as a file: self-contained, and nothing of a guest's is markup in it."""

from __future__ import annotations

import base64
import gzip
import json
import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

from testbed.model.outcome import Verdict
from testbed.report.cell_detail import BLOCK, TRACKS
from testbed.report.html_page import html_page

from ..paper_rundirs import write_rundir

if TYPE_CHECKING:
    from pathlib import Path

    from testbed.model.outcome import Outcome

HOSTILE = "</script><img src=x onerror=alert(1)><!--<script>&lt;"


class Elements(HTMLParser):
    """The elements of a page, and the text of its scripts by their id."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.scripts: dict[str, str] = {}
        self._script: str | None = None
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        self._script = dict(attrs).get("id") or "page" if tag == "script" else None

    def handle_data(self, data: str) -> None:
        if self._script:
            self.scripts[self._script] = self.scripts.get(self._script, "") + data


def unpacked(page: Elements, number: int) -> Any:
    return json.loads(gzip.decompress(base64.b64decode(page.scripts[f"block{number}"])))


def hostile(folder: Path) -> Outcome:
    return write_rundir(folder, cmdline=HOSTILE, said=[HOSTILE], lines=3, reason=HOSTILE, id=HOSTILE, outcome=HOSTILE)


def test_hostile_words_of_a_guest_add_no_element(tmp_path: Path) -> None:
    harmless = Elements(html_page([write_rundir(tmp_path / "1", lines=3)]))
    page = Elements(html_page([hostile(tmp_path / "2")]))
    assert page.tags == harmless.tags
    assert json.loads(page.scripts["summary"])["cells"][0][3] == HOSTILE
    assert HOSTILE in unpacked(page, 0)["texts"]


def test_it_loads_nothing_and_allows_its_own_script_alone(tmp_path: Path) -> None:
    text = html_page([hostile(tmp_path / "1")])
    page = Elements(text)
    assert not {name for name, _ in page.attributes} & {
        "src",
        "href",
        "srcset",
        "action",
        "onerror",
        "onload",
        "onclick",
    }
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)
    assert policy
    assert policy[1].startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy[1]


def test_a_cell_has_the_line_each_finding_cites(tmp_path: Path) -> None:
    page = Elements(html_page([write_rundir(tmp_path / "1", said=["the very line"], lines=3)]))
    (cell,) = unpacked(page, 0)["cells"]
    quotes = {reference: text for *_, quotes in cell["findings"] for reference, text in quotes}
    assert quotes["kernel.log:4"] == "<4>[    8.000000] the very line"
    assert json.loads(quotes["qmp.jsonl:4"])["return"] == {}


def test_kernel_log_and_timeline_can_be_put_together_again(tmp_path: Path) -> None:
    page = Elements(html_page([write_rundir(tmp_path / "1", lines=40)]))
    block = unpacked(page, 0)
    log = block["cells"][0]["log"]
    stamps = [sum(log["stamp"][: n + 1]) / 1e6 for n in range(41)]
    texts = [block["texts"][number] for number in log["text"]]
    written = [
        f"<{level}>[{stamp:12.6f}] {text}" for level, stamp, text in zip(log["level"], stamps, texts, strict=True)
    ]
    assert written == (tmp_path / "1" / "kernel.log").read_text().splitlines()
    tracks = {TRACKS[entry[3]] for entry in block["cells"][0]["entries"]}
    assert tracks == {"action", "qmp", "guest", "console"}


def test_a_text_stands_once_in_a_block(tmp_path: Path) -> None:
    outcomes = [write_rundir(tmp_path / f"{n}", lines=10) for n in range(3)]
    (tmp_path / "1" / "kernel.log").write_text((tmp_path / "0" / "kernel.log").read_text())
    block = unpacked(Elements(html_page(outcomes)), 0)
    assert len(block["texts"]) == len(set(block["texts"]))
    assert block["cells"][0]["log"] == block["cells"][1]["log"]


def test_cells_are_packed_in_blocks_of_their_order(tmp_path: Path) -> None:
    outcomes = [write_rundir(tmp_path / f"{n}", lines=1, said=[f"cell {n}"]) for n in range(BLOCK + 2)]
    page = Elements(html_page(outcomes))
    assert "block2" not in page.scripts
    assert [len(unpacked(page, number)["cells"]) for number in (0, 1)] == [BLOCK, 2]
    assert "cell 33" in unpacked(page, 1)["texts"]


def test_of_a_flooded_kernel_log_begin_and_end_are_kept(tmp_path: Path) -> None:
    page = Elements(html_page([write_rundir(tmp_path / "1", lines=2, said=[f"flood {n}" for n in range(20_000)])]))
    (cell,) = unpacked(page, 0)["cells"]
    lines = [sum(cell["log"]["line"][: n + 1]) for n in (0, 499, 500, 2999)]
    assert lines == [1, 500, 17_503, 20_002]
    assert cell["lines"] == 20_002


def test_a_rundir_that_has_lost_its_logs_still_has_its_verdict(tmp_path: Path) -> None:
    outcome = write_rundir(tmp_path / "1", verdict=Verdict.SKIP)
    for name in ("kernel.log", "qmp.jsonl", "shell.jsonl", "clock.jsonl", "console.log"):
        (tmp_path / "1" / name).unlink()
    (cell,) = unpacked(Elements(html_page([outcome])), 0)["cells"]
    assert cell["entries"] == []
    assert ["verdict", "skip"] in cell["facts"]
