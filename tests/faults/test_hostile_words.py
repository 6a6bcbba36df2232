"""Nothing a guest says steers the terminal, becomes markup, names a file, or runs on the host."""

from __future__ import annotations

import re
from io import StringIO
from typing import TYPE_CHECKING, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.markup import escape

from testbed import cli
from testbed.cli import terminal
from testbed.cli.terminal import HarmlessConsole
from testbed.machine.template import load_template
from testbed.model.errors import BrokenError, InputError
from testbed.model.outcome import CaseResult, Cell, RunReport
from testbed.model.printable import harmless
from testbed.report.html_page import html_page
from testbed.report.terminal import LiveProgress, print_findings, print_report
from tests.unit.bisect_bed import BAD, outcome

if TYPE_CHECKING:
    from pathlib import Path

    from testbed.model.outcome import Outcome

#: clears the screen, sets the title, rings, asks the terminal for its name, C1's CSI, and text from right to left
EVIL = "\x1b[2J\x1b]0;owned\x07\x9b31m\x1b[c\u202etxt.exe\r\x08[bold]x[/bold]</script><script>alert(1)</script>"
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def hostile(folder: Path) -> Outcome:
    told = outcome(Cell(scenario="disk-unplug", machine="q35"), BAD, folder)
    finding = told.findings[0].model_copy(update={"observed": EVIL, "evidence": f"kernel.log:1 {EVIL}"})
    return told.model_copy(update={"reason": EVIL, "hint": EVIL, "note": EVIL, "id": EVIL, "findings": (finding,)})


def shown(*, colours: bool) -> tuple[HarmlessConsole, StringIO]:
    stream = StringIO()
    system: Literal["truecolor"] | None = "truecolor" if colours else None
    return HarmlessConsole(file=stream, width=100, force_terminal=colours, color_system=system), stream


@pytest.mark.parametrize("colours", [False, True])
def test_an_outcome_is_shown_without_what_steers_a_terminal(tmp_path: Path, colours: bool) -> None:
    console, stream = shown(colours=colours)
    evil = hostile(tmp_path)
    report = RunReport(case=None, result=CaseResult.DIFFERS, cells=(evil,))
    print_report(report, console)
    print_findings(evil, console)
    with LiveProgress([Cell(scenario=EVIL, machine="q35")], console) as progress:
        progress.preparing(EVIL)
        progress.phase(0, EVIL)
        progress.done(0, evil)
    text = stream.getvalue()
    assert r"\x1b]0;owned" in text.replace("\n", "")
    assert "[2J" not in re.sub(r"\\x1b\[2J", "", text)
    # what is left of escapes are rich's own: colours, and the cursor of a live display
    own = re.sub(r"\x1b\[[0-9;?]*[mAKhl]", "", text)
    assert not _CONTROL.search(own.replace("\r", "")), own


@given(st.text())
def test_no_text_gets_through_a_console(text: str) -> None:
    console, stream = shown(colours=False)
    console.print(escape(text), soft_wrap=True)
    assert not _CONTROL.search(stream.getvalue())
    assert not _CONTROL.search(harmless(text))


def test_a_name_between_colons_is_no_picture(tmp_path: Path) -> None:
    console, stream = shown(colours=False)
    with LiveProgress([Cell(scenario="a", machine="q35")], console) as progress:
        progress.done(0, hostile(tmp_path).model_copy(update={"id": "root:x:0:0::/:/bin/sh"}))
    assert "root:x:0:0::/:/bin/sh" in stream.getvalue()


@pytest.mark.parametrize(
    "error", [InputError(EVIL, hint=EVIL), BrokenError(EVIL), RuntimeError(EVIL), OSError(28, EVIL)]
)
def test_an_error_is_shown_without_what_steers_a_terminal(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails() -> None:
        raise error

    console, stream = shown(colours=False)
    monkeypatch.setattr(cli, "app", fails)
    monkeypatch.setattr(terminal, "err", console)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code in (2, 128, 129)
    said = stream.getvalue() + capsys.readouterr().err
    assert "owned" in said
    assert not _CONTROL.search(said)


def test_every_console_of_the_command_line_is_a_harmless_one() -> None:
    assert isinstance(terminal.out, HarmlessConsole)
    assert isinstance(terminal.err, HarmlessConsole)


def test_an_html_report_holds_a_guest_s_words_as_data(tmp_path: Path) -> None:
    page = html_page([hostile(tmp_path)])
    assert "<script>alert" not in page
    assert page.count("</script>") == page.count("<script")


BOMBS = (
    "{{ 'a' * 9999999999 }}",
    "{{ [1] * 9999999999 }}",
    "{{ 9 ** 9 ** 9 }}",
    "{{ ''.__class__.__mro__ }}",
    "{{ ''['__class__'] }}",
    "{{ kind.__globals__ }}",
    "{{ self.__init__.__globals__ }}",
    "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "{% for a in range(999999) %}{% endfor %}",
    "{% include '/etc/passwd' %}",
    "{% include '../../../../etc/passwd' %}",
    "{{ '%9999999999d' % 1 }}",
)


@pytest.mark.parametrize("body", BOMBS)
def test_a_template_gets_neither_out_nor_big(tmp_path: Path, body: str) -> None:
    path = tmp_path / "evil.yaml.j2"
    path.write_text(f"description: evil\nparameters: {{}}\n---\n{body}\n")
    with pytest.raises(InputError):
        load_template(str(path)).spec({})
