"""Stall models: how they are written, and what they hold."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.model.cpu_identity import CpuIdentity
from testbed.model.errors import InputError
from testbed.model.mmio_record import Direction, Space
from testbed.model.stall import Circumstances, Stall, StallKind, parse_stall

ZEN = CpuIdentity(vendor="AuthenticAMD", family=0x17, model=0x01)
DHYANA = CpuIdentity(vendor="HygonGenuine", family=0x18, model=0x00)
MODELS = ["off", "smap-erratum", "always", "always:write", "after:3", "after:0:read", "for:2.5", "smap-erratum:read"]


@pytest.mark.parametrize("text", MODELS)
def test_a_model_is_written_as_it_is_read(text: str) -> None:
    assert str(parse_stall(text)) == text
    assert parse_stall(text).words.startswith(text) or text == "off"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "there is no model ''"),
        ("smap", "there is no model 'smap'"),
        ("always:both", "'both' after always means nothing"),
        ("after", "after takes one number"),
        ("after:-1", "wanted a whole number from 0"),
        ("after:1.5", "wanted a whole number"),
        ("for:nan", "wanted a number from 0"),
        ("for:1:2", "for takes one number"),
    ],
)
def test_what_is_no_model_is_refused(text: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_stall(text)
    assert words in caught.value.message
    assert "smap-erratum" in str(caught.value.hint)


@given(st.text(max_size=20))
def test_no_text_raises_anything_else(text: str) -> None:
    with contextlib.suppress(InputError):
        assert isinstance(parse_stall(text), Stall)


def under(cpl: int = 3, space: Space = Space.MMIO, cpu: CpuIdentity = ZEN, *, smap: bool = True) -> Circumstances:
    return Circumstances(space=space, cpl=cpl, smap=smap, cpu=cpu)


@pytest.mark.parametrize(
    ("circumstances", "held"),
    [
        (under(), True),
        (under(cpu=DHYANA), True),
        (under(cpl=0), False),
        (under(smap=False), False),
        (under(space=Space.PIO), False),
        (under(cpu=CpuIdentity(vendor="AuthenticAMD", family=0x17, model=0x31)), False),
        (under(cpu=CpuIdentity(vendor="AuthenticAMD", family=0x15, model=1)), False),
        (under(cpu=CpuIdentity(vendor="GenuineIntel", family=0x17, model=1)), False),
        (None, False),
    ],
)
def test_the_erratum_needs_its_cpu_user_mode_smap_and_memory(circumstances: Circumstances | None, held: bool) -> None:
    assert parse_stall("smap-erratum").holds(completed=0, circumstances=circumstances) is held


def test_always_asks_for_nothing_and_after_counts() -> None:
    assert parse_stall("always").holds(completed=100)
    after = parse_stall("after:2")
    assert [after.holds(completed=done) for done in range(4)] == [False, False, True, True]
    assert not parse_stall("off").holds(completed=0, circumstances=under())


def test_a_direction_limits_it() -> None:
    reads = parse_stall("always:read")
    assert reads.concerns(Direction.READ)
    assert not reads.concerns(Direction.WRITE)
    assert not Stall(kind=StallKind.OFF).concerns(Direction.READ)
