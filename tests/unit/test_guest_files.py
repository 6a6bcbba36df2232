from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.guest.files import Shown, parse_shown

NAMES = st.text(st.characters(codec="ascii", exclude_characters=" \n\0", exclude_categories=["Cc"]), min_size=1)


def _printed(files: dict[str, bytes], links: dict[str, str]) -> bytes:
    """Return what guest-images/verbs.c prints for these."""
    shown = b"".join(b"file %s %d\n%s\n" % (path.encode(), len(text), text) for path, text in files.items())
    return shown + b"".join(f"link {path} {target}\n".encode() for path, target in links.items())


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
