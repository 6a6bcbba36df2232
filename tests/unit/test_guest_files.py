from __future__ import annotations

import contextlib
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.guest.files import Shown, parse_shown, requests
from testbed.guest.frames import MAX_PAYLOAD

NAMES = st.text(st.characters(codec="ascii", exclude_characters=" \n\0", exclude_categories=["Cc"]), min_size=1)


def _printed(files: dict[str, bytes], links: dict[str, str]) -> bytes:
    """Return what guest-images/verbs.c prints for these."""
    shown = b"".join(b"file %s %d\n%s\n" % (path.encode(), len(text), text) for path, text in files.items())
    return shown + b"".join(f"link {path} {target}\n".encode() for path, target in links.items())


def _words_of_init() -> int:
    """Return how many words of a request guest-images/init.c takes."""
    source = (Path(__file__).parents[2] / "guest-images" / "init.c").read_text()
    (taken,) = re.findall(r"at < payload \+ length && count < (\d+)", source)
    return int(taken)


@given(files=st.dictionaries(NAMES, st.binary()), links=st.dictionaries(NAMES, NAMES))
def test_what_is_shown_is_read(files: dict[str, bytes], links: dict[str, str]) -> None:
    assert parse_shown(_printed(files, links)) == (files, links)


@pytest.mark.parametrize("output", [b"file /a -9\n12345678", b"file /a 9\nshort\n", b"what /a 1\nx\n", b"file /a\n\n"])
def test_a_damaged_answer_is_refused(output: bytes) -> None:
    with pytest.raises((ValueError, IndexError)):
        parse_shown(output)


@given(st.binary())
def test_whatever_a_guest_prints_is_read_or_refused(output: bytes) -> None:
    with contextlib.suppress(ValueError, IndexError):
        parse_shown(output)


def test_paths_are_found_by_pattern() -> None:
    shown = Shown(files={"/a/1/x": b" one\n"}, links={"/a/2/x": ".."}, evidence="shell.jsonl:1")
    assert shown.matching("/a/*/x") == ["/a/1/x", "/a/2/x"]
    assert (shown.text("/a/1/x"), shown.text("/none")) == ("one", "")


def test_patterns_are_asked_for_in_as_few_requests_as_hold_them() -> None:
    patterns = [f"/sys/bus/pci/devices/0000:01:{number:02x}.0/config" for number in range(2000)]
    groups = list(requests(patterns))
    assert [pattern for group in groups for pattern in group] == patterns
    sizes = [len("show\0") + sum(len(each) + 1 for each in group) for group in groups]
    assert max(sizes) <= MAX_PAYLOAD
    # "show" is one of the words that the guest's init takes
    assert max(len(group) for group in groups) < _words_of_init()
    assert len(groups) <= 2 + max(sum(sizes) // MAX_PAYLOAD, len(patterns) // 60)
    long = [f"/sys/{'x' * 200}{number}" for number in range(100)]
    assert [each for group in requests(long) for each in group] == long
    assert max(sum(len(each) + 1 for each in group) for group in requests(long)) <= MAX_PAYLOAD - len("show\0")
    assert list(requests(["/proc/uptime"])) == [["/proc/uptime"]]
