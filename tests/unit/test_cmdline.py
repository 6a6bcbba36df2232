"""The kernel command line: split as the kernel does, kept verbatim, refused only where it cannot work."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from testbed.model.cmdline import MAX_LENGTH, PREFIX, CommandLine
from testbed.model.errors import InputError

#: any text, lone surrogates too: arguments that are not UTF-8 arrive as such
ANY_TEXT = st.text(st.characters(exclude_categories=()))
#: text made of what matters to the splitting
TRICKY = st.text(st.sampled_from('ab =-_" \t'))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        ("   ", []),
        ("quiet  pcie_aspm=off ", ["quiet", "pcie_aspm=off"]),
        ("a\tb", ["a", "b"]),
        ('dyndbg="file a.c +p" quiet', ['dyndbg="file a.c +p"', "quiet"]),
        ('"a b=c d" e', ['"a b=c d"', "e"]),
        ('x="unclosed y', ['x="unclosed y']),
    ],
)
def test_blanks_separate_words_and_quotes_protect_blanks(text: str, words: list[str]) -> None:
    assert CommandLine(text).words == words


def test_two_dashes_end_the_options_of_the_kernel() -> None:
    line = CommandLine("quiet -- rdinit=/bin/sh --")
    assert line.options == ["quiet"]
    assert line.init_arguments == ["rdinit=/bin/sh", "--"]


def test_without_two_dashes_init_gets_nothing() -> None:
    line = CommandLine("quiet a--b")
    assert line.options == ["quiet", "a--b"]
    assert line.init_arguments == []


@pytest.mark.parametrize(
    ("text", "name", "values"),
    [
        ("pcie_aspm=off", "pcie_aspm", ["off"]),
        ("pcie-aspm=off", "pcie_aspm", ["off"]),
        ("pcie_aspm=off", "pcie-aspm", ["off"]),
        ("pci=a pci=b,c", "pci", ["a", "b,c"]),
        ('pci="a b"', "pci", ["a b"]),
        ('"pci=a b"', "pci", ["a b"]),
        ("quiet", "quiet", [""]),
        ("root=UUID=1-2", "root", ["UUID=1-2"]),
        ("xpci=a pcix=b", "pci", []),
        ("-- pci=a", "pci", []),
    ],
)
def test_values_are_found_by_name(text: str, name: str, values: list[str]) -> None:
    assert CommandLine(text).values(name) == values


@pytest.mark.parametrize(
    "text",
    [
        "rdinit=/bin/sh",
        '"rdinit=/bin/sh"',
        "noinitrd",
        "8250.nr_uarts=0",
        "8250.nr-uarts=1",
        "8250.nr_uarts=0x1",
        "8250.nr_uarts=01",
        "8250_core.nr_uarts=1",
        "console=ttyS1",
        "console=ttyS1,115200",
        'console="ttyS1,115200"',
        "earlyprintk=serial,ttyS1,115200",
        "kgdboc=ttyS1",
        "quiet console=tty0 console=ttyS1",
    ],
)
def test_an_option_that_takes_the_channel_is_refused_by_name(text: str) -> None:
    with pytest.raises(InputError, match="takes over the test bed's channel") as caught:
        CommandLine(text).check()
    assert text.split(maxsplit=2)[-1] in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    "text",
    [
        "",
        "console=ttyS0 console=tty0",
        "console=ttyS10",
        "8250.nr_uarts=4",
        "8250.nr_uarts=10",
        "8250.nr_uarts=0x10",
        "earlyprintk=ttyS0",
        "init=/bin/sh",
        "quiet -- rdinit=/bin/sh",
        'dyndbg="file a.c +p"',
        "größe=1",
    ],
)
def test_other_options_are_taken(text: str) -> None:
    CommandLine(text).check()


@pytest.mark.parametrize("char", ["\0", "\n", "\r", "\x1b", "\t"])
def test_a_control_character_is_refused(char: str) -> None:
    with pytest.raises(InputError, match="control character"):
        CommandLine(f"quiet{char}x").check()


def test_an_open_quote_is_refused_with_its_text() -> None:
    with pytest.raises(InputError, match='not closed: "file a'):
        CommandLine('a="b" dyndbg="file a').check()


def test_text_that_is_not_utf8_is_refused() -> None:
    with pytest.raises(InputError, match="not UTF-8"):
        CommandLine("a=\udcff").check()


@pytest.mark.parametrize("letter", ["x", "é"])
def test_length_is_counted_in_bytes_with_the_prefix(letter: str) -> None:
    room = MAX_LENGTH - len(PREFIX) - 1
    longest = letter * (room // len(letter.encode()))
    CommandLine(longest).check()
    with pytest.raises(InputError, match=f"the kernel takes {MAX_LENGTH}"):
        CommandLine(longest + letter).check()


def test_an_empty_line_adds_no_blank_to_the_prefix() -> None:
    assert CommandLine("").with_prefix() == PREFIX


@given(ANY_TEXT)
def test_the_text_is_never_changed(text: str) -> None:
    line = CommandLine(text)
    assert line.text == text
    assert line.with_prefix() == (f"{PREFIX} {text}" if text else PREFIX)


@given(TRICKY)
def test_splitting_loses_only_blanks_between_words(text: str) -> None:
    line = CommandLine(text)
    assert "".join(line.words).replace(" ", "").replace("\t", "") == text.replace(" ", "").replace("\t", "")
    ended = ["--"] if "--" in line.words else []
    assert [*line.options, *ended, *line.init_arguments] == line.words


@given(ANY_TEXT | TRICKY)
@example("\ud800")
@example('rdinit="')
@example('"rdinit="')
def test_checking_raises_nothing_but_input_errors(text: str) -> None:
    with contextlib.suppress(InputError):
        CommandLine(text).check()
