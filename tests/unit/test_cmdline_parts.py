"""The parts of a command line: exact when put together again, and each one really a part."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from testbed.model.cmdline import CommandLine
from testbed.model.cmdline_parts import COMMA_LISTS, CommandLineParts, take_apart

CUSTOMER_LINE = (
    "BOOT_IMAGE=/vmlinuz-5.14.0 root=/dev/mapper/rhel-root ro crashkernel=1G-4G:192M,4G-64G:256M "
    "intel_iommu=on,sm_on iommu=pt pci=nomsi,noaer,realloc=on mitigations=auto,nosmt console=tty0 "
    'console=ttyS0,115200n8 dyndbg="file drivers/pci/* +p" vfio-pci.ids=8086:10ed,8086:1520 quiet'
)


def _texts(parts: CommandLineParts) -> list[str]:
    return [part.text for part in parts.parts]


def _split(text: str, *, with_init: bool = False) -> list[str]:
    return _texts(take_apart(CommandLine(text), with_init=with_init))


def test_a_customers_line_is_taken_apart_into_what_can_be_suspected() -> None:
    assert _split(CUSTOMER_LINE) == [
        "BOOT_IMAGE=/vmlinuz-5.14.0",
        "root=/dev/mapper/rhel-root",
        "ro",
        "crashkernel=1G-4G:192M,4G-64G:256M",
        "intel_iommu=on",
        "intel_iommu=sm_on",
        "iommu=pt",
        "pci=nomsi",
        "pci=noaer",
        "pci=realloc=on",
        "mitigations=auto,nosmt",
        "console=tty0",
        "console=ttyS0,115200n8",
        'dyndbg="file drivers/pci/* +p"',
        "vfio-pci.ids=8086:10ed",
        "vfio-pci.ids=8086:1520",
        "quiet",
    ]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", []),
        (" \t ", []),
        ("pci", ["pci"]),
        ("pci=", ["pci="]),
        ("pci=,", ["pci=,"]),
        ("pci=nomsi", ["pci=nomsi"]),
        ("pci=nomsi,", ["pci=nomsi,"]),
        ("pci=nomsi,,noaer", ["pci=nomsi,", "pci=noaer"]),
        ("pci=,,nomsi,noaer", ["pci=,,nomsi", "pci=noaer"]),
        ('pci="nomsi,noaer"', ['pci="nomsi"', 'pci="noaer"']),
        ('"pci=nomsi,noaer"', ['"pci=nomsi"', '"pci=noaer"']),
        ('pci=no"msi,no"aer', ['pci=no"msi,no"aer']),
        ('pci="nomsi,noaer', ['pci="nomsi,noaer']),
        ("pci=nomsi pci=nomsi", ["pci=nomsi", "pci=nomsi"]),
        ("vfio_pci.ids=1:2,3:4", ["vfio_pci.ids=1:2", "vfio_pci.ids=3:4"]),
        ("xpci=a,b pci.x=c,d", ["xpci=a,b", "pci.x=c,d"]),
        ("slub_debug=FZ,kmalloc-64 isolcpus=nohz,1-3", ["slub_debug=FZ,kmalloc-64", "isolcpus=nohz,1-3"]),
    ],
)
def test_only_lists_of_independent_sub_options_are_split(text: str, parts: list[str]) -> None:
    assert _split(text) == parts
    taken = take_apart(CommandLine(text))
    assert taken.rebuild(taken.parts) == text


def _without(text: str, *out: str, with_init: bool = False) -> str:
    taken = take_apart(CommandLine(text), with_init=with_init)
    assert set(out) <= set(_texts(taken))
    return taken.rebuild([part for part in taken.parts if part.text not in out])


@pytest.mark.parametrize(
    ("text", "out", "left"),
    [
        ("a b c", ("b",), "a c"),
        ("a b c", ("a",), "b c"),
        ("a b c", ("c",), "a b"),
        ("a b c", ("a", "b", "c"), ""),
        ("  a \t b  c ", ("b",), "  a  c "),
        ("  a \t b  c ", ("a",), "  b  c "),
        ("pci=x,y,z", ("pci=y",), "pci=x,z"),
        ("pci=x,y,z", ("pci=x", "pci=y", "pci=z"), ""),
        ("q pci=x,y pci=z r", ("pci=x",), "q pci=y pci=z r"),
        ('pci="x,y" q', ('pci="x"',), 'pci="y" q'),
        ("a -- b --", ("a",), "-- b --"),
    ],
)
def test_what_is_left_keeps_order_blanks_and_lists(text: str, out: tuple[str, ...], left: str) -> None:
    assert _without(text, *out) == left


def test_of_a_repeated_option_any_occurrence_can_be_taken_out() -> None:
    taken = take_apart(CommandLine("pci=a pci=b pci=a"))
    assert [taken.rebuild([part]) for part in taken.parts] == ["pci=a", "pci=b", "pci=a"]
    assert taken.rebuild(taken.parts[1:]) == "pci=b pci=a"


def test_what_takes_the_channel_is_set_aside_with_the_reason() -> None:
    taken = take_apart(CommandLine("quiet rdinit=/bin/sh pci=a,b console=ttyS1,115200 8250.nr_uarts=1 -- rdinit=x"))
    assert [aside.text for aside in taken.aside] == ["rdinit=/bin/sh", "console=ttyS1,115200", "8250.nr_uarts=1"]
    assert all("channel" in aside.reason for aside in taken.aside)
    assert _texts(taken) == ["quiet", "pci=a", "pci=b"]
    assert taken.rebuild(taken.parts) == "quiet pci=a,b -- rdinit=x"


def test_arguments_of_init_are_kept_and_no_suspects_unless_asked_for() -> None:
    line = CommandLine("quiet -- single pci=a,b --")
    taken = take_apart(line)
    assert taken.init == ("single", "pci=a,b", "--")
    assert taken.rebuild([]) == "-- single pci=a,b --"
    asked = take_apart(line, with_init=True)
    assert asked.init == ()
    assert _texts(asked) == ["quiet", "single", "pci=a,b", "--"]


@pytest.mark.parametrize(
    ("text", "out", "left"),
    [
        ("q -- a b", ("a",), "q -- b"),
        ("q -- a b", ("a", "b"), "q"),
        ("q -- a b", ("q",), "-- a b"),
        ("q --", ("q",), "--"),
        ("q --", (), "q --"),
    ],
)
def test_the_two_dashes_go_with_the_last_argument_of_init(text: str, out: tuple[str, ...], left: str) -> None:
    assert _without(text, *out, with_init=True) == left


_BLANKS = st.text(st.sampled_from(" \t"), min_size=1, max_size=3)
_VALUES = st.text(st.sampled_from("ab,;=.:-"), max_size=6)
_NAMES = st.sampled_from([*sorted(COMMA_LISTS), "vfio-pci.ids", "quiet", "console", "mitigations", "rdinit", "a-b"])
_OPTIONS = st.one_of(
    _NAMES,
    st.builds("{}={}".format, _NAMES, _VALUES),
    st.builds('{}="{} {}"'.format, _NAMES, _VALUES, _VALUES),
    st.builds('"{}={} {}"'.format, _NAMES, _VALUES, _VALUES),
    st.text(st.sampled_from('ab=",'), min_size=1, max_size=6).filter(lambda word: word.count('"') % 2 == 0),
    st.just("--"),
)


@st.composite
def lines(draw: st.DrawFn) -> str:
    """Draw a line of options with odd blanks between and around them."""
    text = draw(st.just("") | _BLANKS)
    for option in draw(st.lists(_OPTIONS, max_size=8)):
        text += option + draw(_BLANKS)
    return text if draw(st.booleans()) else text.rstrip()


@given(lines() | st.text(st.characters(exclude_categories=())) | st.text(st.sampled_from('ab=,-" \t')), st.booleans())
@example('pci=","', False)
@example('pci="', False)
@example("pci=nomsi,nomsi", False)
def test_the_round_trip_is_exact(text: str, with_init: bool) -> None:
    taken = take_apart(CommandLine(text), with_init=with_init)
    if not taken.aside:
        assert taken.rebuild(taken.parts) == text
    assert len(set(taken.parts)) == len(taken.parts)


@given(st.data(), lines(), st.booleans())
def test_a_line_of_some_parts_has_exactly_these_parts(data: st.DataObject, text: str, with_init: bool) -> None:
    taken = take_apart(CommandLine(text), with_init=with_init)
    kept = [part for part in taken.parts if data.draw(st.booleans())]
    again = take_apart(CommandLine(taken.rebuild(kept)), with_init=with_init)
    assert _texts(again) == [part.text for part in kept]
    assert again.aside == ()
    assert again.init == taken.init


@given(lines())
def test_every_word_is_in_a_part_or_set_aside_or_for_init(text: str) -> None:
    line = CommandLine(text)
    taken = take_apart(line)
    assert {part.word for part in taken.parts} | {aside.word for aside in taken.aside} == set(range(len(line.options)))
    assert list(taken.init) == line.init_arguments
