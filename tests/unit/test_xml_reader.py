"""The XML reader: lines of elements, and errors with the line for whatever is no plain XML."""

from __future__ import annotations

import contextlib
import html
from dataclasses import replace
from typing import TYPE_CHECKING
from xml.sax.saxutils import quoteattr

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.model.errors import InputError
from testbed.model.xml_reader import Element, parse_xml, read_xmls

if TYPE_CHECKING:
    from pathlib import Path

TEXT = b"""<?xml version='1.0'?>
<domain type='kvm'>
  <devices>
    <disk><target dev='vda'
      bus='virtio'/></disk>
    <disk/>
  </devices>
  <name> a &amp; <!-- no --> b </name>
</domain>
"""
#: entities that would grow to a gigabyte, and one that would read a file
BOMB = b"<!DOCTYPE d [<!ENTITY a 'aaaaaaaa'><!ENTITY b '&a;&a;&a;&a;'>]>\n<d>&b;</d>"
FILE = b"<domain>\n</domain>\n"

names = st.from_regex(r"[a-z]{1,8}", fullmatch=True)
texts = st.text(st.characters(min_codepoint=32, max_codepoint=0x2FF, exclude_characters="\x7f"), max_size=20)
trees = st.recursive(
    st.builds(Element, tag=names, line=st.just(0), attributes=st.dictionaries(names, texts, max_size=3)),
    lambda inner: st.builds(Element, tag=names, line=st.just(0), children=st.lists(inner, max_size=3)),
    max_leaves=12,
)


def written(element: Element) -> str:
    attributes = "".join(f" {key}={quoteattr(text)}" for key, text in element.attributes.items())
    return f"<{element.tag}{attributes}>{''.join(map(written, element.children))}</{element.tag}>"


def without_lines(element: Element) -> Element:
    return replace(element, line=0, children=[without_lines(child) for child in element.children])


def test_elements_know_their_lines_attributes_and_text() -> None:
    root = parse_xml(TEXT, source="d.xml")
    assert (root.tag, root.line) == ("domain", 2)
    assert [disk.line for disk in root.all("devices/disk")] == [4, 6]
    assert root.get("devices/disk/target", "bus") == "virtio"
    assert root.get("", "type") == "kvm"
    assert " ".join(root.words("name").split()) == "a & b"
    assert (root.find("nowhere"), root.get("nowhere", "x", "none"), root.words("nowhere")) == (None, "none", "")


@given(trees)
def test_what_is_written_is_read(tree: Element) -> None:
    assert without_lines(parse_xml(written(tree).encode(), source="x")) == tree


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "x:1: not XML: no element found"),
        (b"hello\n", "x:1: not XML: syntax error"),
        (b"<a>\n<b>\n</a>", "x:3: not XML: mismatched tag"),
        (b"<a>\n</a>\n<b/>", "x:3: not XML: junk after document element"),
        (b"<a>&what;</a>", "x:1: not XML: undefined entity"),
        (b"<a>\xff</a>", "x:1: not XML: not well-formed"),
        (b"<?xml version='1.0' encoding='martian'?><a/>", "not XML: unknown encoding"),
        (BOMB, "x:1: document types are not allowed"),
        (b"<!DOCTYPE d SYSTEM 'file:///etc/passwd'>\n<d/>", "x:1: document types are not allowed"),
        (b"<a>" * 100, "x:1: more than 64 levels"),
        (b"<a>" + b" " * (4 << 20) + b"</a>", "x: more than 4 MiB"),
    ],
)
def test_what_is_no_plain_xml_is_refused_with_its_line(data: bytes, message: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_xml(data, source="x")
    assert message in caught.value.message


@given(st.binary(max_size=200))
def test_no_bytes_bring_the_reader_down(data: bytes) -> None:
    for text in (data, FILE[:8] + data, b"<" + data):
        with contextlib.suppress(InputError):
            parse_xml(text, source="x")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.xml: cannot be read: No such file"):
        read_xmls(tmp_path / "none.xml", "domain")
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        read_xmls(tmp_path, "domain")


TWO = "<domain>\n<name>a</name>\n</domain>\n<domain>\n<name>b</name>\n</domain>\n"


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (TWO.encode(), [1, 4]),
        (f"<?xml version='1.0'?>\n{TWO}".encode(), [2, 5]),
        (f"<?xml version='1.0'?>\n{TWO}<?xml version='1.0'?>\n{TWO}".encode(), [2, 5, 9, 12]),
        (f"<domains>\n{TWO}</domains>".encode(), [2, 5]),
        (f"$ virsh dumpxml a\n{TWO}\n$ ".encode(), [2, 5]),
        ("".join(f"> {line}\n" for line in TWO.splitlines()).encode(), [1, 4]),
        ("".join(f"{number}:{line}\n" for number, line in enumerate(TWO.splitlines(), 1)).encode(), [1, 4]),
        (TWO.replace("\n", "\r\n").encode(), [1, 4]),
        (TWO.encode("utf-16"), [1, 4]),
        (f"\ufeff{TWO}".encode(), [1, 4]),
        (html.escape(TWO).encode(), [1, 4]),
    ],
)
def test_every_element_of_a_pasted_file_is_found_with_its_line(tmp_path: Path, data: bytes, lines: list[int]) -> None:
    (tmp_path / "d.xml").write_bytes(data)
    found = read_xmls(tmp_path / "d.xml", "domain")
    assert [element.line for element in found] == lines
    assert {element.words("name") for element in found} == {"a", "b"}


def test_entities_are_what_they_are(tmp_path: Path) -> None:
    (tmp_path / "d.xml").write_text("> <domain>\n> <name>a &amp; &lt;b&gt;</name>\n> </domain>\n")
    assert [each.words("name") for each in read_xmls(tmp_path / "d.xml", "domain")] == ["a & <b>"]


def test_a_file_without_such_an_element_is_its_root(tmp_path: Path) -> None:
    (tmp_path / "d.xml").write_text("<network/>")
    assert [element.tag for element in read_xmls(tmp_path / "d.xml", "domain")] == ["network"]
    (tmp_path / "d.xml").write_text("<domain>\n<name>")
    with pytest.raises(InputError, match=r"d\.xml:2: not XML"):
        read_xmls(tmp_path / "d.xml", "domain")
