"""Quotes: the very line that a finding cites, and nothing outside the rundir."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from testbed.campaign.record.evidence import Quote, quote_evidence, read_lines

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def rundir(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "kernel.log").write_text("".join(f"line {n}\n" for n in range(1, 31)))
    (folder / "qmp.jsonl").write_text('{"return": {}}\n')
    (tmp_path / "secret.log").write_text("secret\n")
    return folder


@pytest.mark.parametrize(
    ("evidence", "texts"),
    [
        ("kernel.log:2", ["line 2"]),
        ("kernel.log:2-4", ["line 2\nline 3\nline 4"]),
        ("kernel.log:30, qmp.jsonl:1", ["line 30", '{"return": {}}']),
        ("kernel.log:31", []),
        ("kernel.log:0", []),
        ("kernel.log:999999999999999999999", []),
        ("none.log:1", []),
        ("../secret.log:1", []),
        ("see the console", []),
    ],
)
def test_a_reference_is_quoted_by_its_line(rundir: Path, evidence: str, texts: list[str]) -> None:
    assert [quote.text for quote in quote_evidence(rundir, evidence)] == texts


def test_a_file_alone_is_quoted_by_its_end(rundir: Path) -> None:
    (quote,) = quote_evidence(rundir, "kernel.log")
    assert quote == Quote(reference="kernel.log", text="\n".join(f"line {n}" for n in range(19, 31)))


def test_a_long_line_is_cut_and_its_length_said(rundir: Path) -> None:
    (rundir / "qmp.jsonl").write_text("x" * 10_000)
    (quote,) = quote_evidence(rundir, "qmp.jsonl:1")
    assert quote.text.endswith("… (10000 characters)")
    assert len(quote.text) < 5000


def test_only_a_line_feed_ends_a_line(rundir: Path) -> None:
    """A console's line is counted by its \\n; a guest prints other things that Python takes for the end of a line."""
    (rundir / "console.log").write_bytes(b"one\r\ntw\ro\x0c\x0b\x1c\xc2\x85\xe2\x80\xa8\r\r\n\xff three\r\n")
    assert [quote.text for quote in quote_evidence(rundir, "console.log:1, console.log:3")] == ["one", "\ufffd three"]
    assert len(read_lines(rundir / "console.log")) == 3
