"""Acknowledged writes are looked up in the image: none is missed, and none is asked for that was not acknowledged."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from testbed.guest.disk_writer import BLOCK, WriterReport, block

FIRST = 3


def written(count: int, acknowledged: int) -> WriterReport:
    return WriterReport(
        first=FIRST, count=count, acknowledged=acknowledged, last=1.0, error="", evidence="shell.jsonl:1"
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
