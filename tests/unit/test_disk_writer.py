"""Acknowledged writes are looked up in the image: none is missed, and none is asked for that was not acknowledged."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from testbed.guest.disk_writer import BLOCK, WriterReport, block

FIRST = 3


def written(count: int, acknowledged: int, *, status: int = 0) -> WriterReport:
    return WriterReport(
        first=FIRST,
        count=count,
        done=acknowledged,
        last=1.0,
        before_ms=1.0,
        after_ms=1.0,
        status=status,
        error="",
        evidence="shell.jsonl:1",
    )


def image_of(count: int, writes: int) -> bytearray:
    """Return a disk after so many writes, round and round over `count` blocks."""
    image = bytearray((FIRST + count) * BLOCK)
    for number in range(1, writes + 1):
        at = (FIRST + (number - 1) % count) * BLOCK
        image[at : at + BLOCK] = block(number)
    return image


def missing(what: WriterReport, image: bytes | bytearray) -> list[int]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "disk.raw"
        path.write_bytes(image)
        return what.missing(path)


@given(count=st.integers(1, 6), acknowledged=st.integers(0, 20), unheard=st.integers(0, 1))
def test_nothing_is_missing_of_what_was_written(count: int, acknowledged: int, unheard: int) -> None:
    # the write that was under way at the end may have reached the image without being acknowledged
    assert missing(written(count, acknowledged), image_of(count, acknowledged + unheard)) == []


@given(count=st.integers(2, 6), acknowledged=st.integers(1, 20), data=st.data())
def test_an_acknowledged_write_that_is_not_there_is_missing(count: int, acknowledged: int, data: st.DataObject) -> None:
    number = data.draw(st.integers(max(1, acknowledged - count + 1), acknowledged), label="lost write")
    index = (number - 1) % count
    image = image_of(count, acknowledged)
    before = block(number - count) if number > count else bytes(BLOCK)
    at = (FIRST + index) * BLOCK
    image[at : at + BLOCK] = before
    # only the block that the next write was on its way to may hold anything
    under_way = index == acknowledged % count
    assert missing(written(count, acknowledged), image) == ([] if under_way else [FIRST + index])


def test_an_image_that_is_cut_off_has_lost_its_end() -> None:
    assert missing(written(4, 4), image_of(4, 4)[:-BLOCK]) == [FIRST + 3]


@given(count=st.integers(1, 6), acknowledged=st.integers(0, 20), unheard=st.integers(0, 9))
def test_a_writer_that_was_cut_off_may_have_written_more_than_it_said(
    count: int, acknowledged: int, unheard: int
) -> None:
    assert missing(written(count, acknowledged, status=-9), image_of(count, acknowledged + unheard)) == []


@given(count=st.integers(2, 6), acknowledged=st.integers(11, 20), data=st.data())
def test_what_it_did_say_must_be_there(count: int, acknowledged: int, data: st.DataObject) -> None:
    number = data.draw(st.integers(acknowledged - count + 1, acknowledged), label="lost write")
    image = image_of(count, acknowledged)
    at = (FIRST + (number - 1) % count) * BLOCK
    torn = block(number)[: BLOCK // 2] + block(number + count)[BLOCK // 2 :]
    image[at : at + BLOCK] = data.draw(st.sampled_from([block(number - count), bytes(BLOCK), torn]), label="held")
    assert missing(written(count, acknowledged, status=-9), image) == [FIRST + (number - 1) % count]
