"""A file as people hand it on is the same file: whatever its encoding, and whatever was put before its lines."""

from __future__ import annotations

import codecs
import gzip
import json
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from testbed.model.errors import InputError
from testbed.model.pasted import (
    MAX_LINE,
    clean_line,
    decode,
    encoding_of,
    is_binary,
    refuse_packed,
    split_lines,
    unwrapped,
)

LOG = ["[    0.000000] Linux version 6.1", "[    0.031190] PCIe ASPM is disabled", "[   12.000001] x: \t y"]
DUMP = [
    "03:00.0 Network controller: Atheros",
    "\tCapabilities: [40] Express (v1) Root Port (Slot+), MSI 00",
    "\t\tSltCap:\tAttnBtn-",
    "00: 8c 16 2a 00 07 01 10 00 01 00 80 02 10 00 00 00",
    "10: 04 00 60 f4 00 00 00 00 00 00 00 00 00 00 00 00",
]
HEXDUMP = ["00000000  8c 16 2a 00 07 01 10 00  01 00 80 02 10 00 00 00  |..*.............|", "*", "00000100"]
TRACE = [
    "CPU 0/KVM-4711    [002] d..1.  1234.500300: kvm_exit:             reason npf rip 0x4f1184",
    "<...>-4711  [002] .....  1234.500301: kvm_page_fault:       address fe000014",
]
KNOWN = re.compile(
    r"\[[ 0-9.]{12}\] |[0-9a-f]{2}:[0-9a-f]{2}\.[0-7] [A-Z]|[0-9a-f]{2}:(?: [0-9a-f]{2}){16}$"
    r"|[0-9a-f]{8}  ?[0-9a-f]|(?:CPU 0/KVM|<\.\.\.>)-[0-9]+ +\[[0-9]{3}\] "
)
#: what puts something before a line, given the line's number
WRAPPINGS = {
    "mail": lambda line, number: f"> {line}",
    "mail of a mail": lambda line, number: f"> >> {line}",
    "initials": lambda line, number: f"JD> {line}",
    "bar": lambda line, number: f"| {line}",
    "indent": lambda line, number: f"    {line}",
    "tab": lambda line, number: f"\t{line}",
    "grep -n": lambda line, number: f"{number}:{line}",
    "grep -nH": lambda line, number: f"/var/log/kern.log:{number}:{line}",
    "grep -C": lambda line, number: f"{number}-{line}",
    "grep -H": lambda line, number: f"./dmesg-1.txt:{line}",
    "cat -n": lambda line, number: f"{number:6}\t{line}",
    "docker": lambda line, number: f"2024-05-07T09:12:{number % 60:02}.123450001Z {line}",
    "cri": lambda line, number: f"2024-05-07T09:12:{number % 60:02}.123450001+02:00 stdout F {line}",
    "json": lambda line, number: json.dumps({"log": f"{line}\n", "stream": "stdout"}),
    "jenkins": lambda line, number: f"[2024-05-07T09:12:00.123Z] {line}",
    "tio": lambda line, number: f"[09:12:{number % 60:02}.123] {line}",
    "minicom": lambda line, number: f"[2024-05-07 09:12:00] {line}",
    "ts": lambda line, number: f"May 07 09:12:{number % 60:02} {line}",
    "grabserial": lambda line, number: f"[{number}.000001 0.000001] {line}",
    "compose": lambda line, number: f"guest-1  | {line}",
    "kubectl": lambda line, number: f"[pod/guest-0/console] {line}",
    "quoted docker": lambda line, number: f"> 2024-05-07T09:12:00.1Z {line}",
    "indented grep": lambda line, number: f"    {number}:{line}",
}


def knows(text: str) -> bool:
    return KNOWN.match(text) is not None


def read(lines: list[str]) -> list[str]:
    return list(unwrapped(lines, knows))


@pytest.mark.parametrize("name", sorted(WRAPPINGS))
@pytest.mark.parametrize("lines", [LOG, DUMP, HEXDUMP, TRACE], ids=["log", "lspci", "hexdump", "trace"])
def test_what_was_put_before_every_line_is_taken_off(lines: list[str], name: str) -> None:
    wrapped = [WRAPPINGS[name](line, number) for number, line in enumerate(lines, 96)]
    assert read(wrapped) == lines


@pytest.mark.parametrize("lines", [LOG, DUMP, HEXDUMP, TRACE], ids=["log", "lspci", "hexdump", "trace"])
def test_a_plain_file_is_left_as_it_is(lines: list[str]) -> None:
    assert read(lines) == lines


@given(
    st.lists(st.sampled_from([*LOG, *DUMP, "prose, and more of it", "", "  and: indented"]), max_size=12),
    st.sampled_from(sorted(set(WRAPPINGS) - {"json", "indent", "tab", "indented grep"})),
)
def test_lines_that_a_reader_does_not_know_lose_what_the_known_ones_lose(lines: list[str], name: str) -> None:
    whole = [LOG[0], *lines]
    assert read([WRAPPINGS[name](line, number) for number, line in enumerate(whole, 1)]) == whole


def test_prose_around_a_quote_stays() -> None:
    lines = ["This is what it says:", "", *(f"> {line}" for line in DUMP), "", "Why is that so?", DUMP[0]]
    assert read(lines) == [*lines[:2], *DUMP, *lines[-3:]]


def test_an_indent_of_a_lines_own_stays() -> None:
    assert read([f"    {line.expandtabs(8)}" for line in DUMP]) == [line.expandtabs(8) for line in DUMP]


@given(st.binary(max_size=300))
def test_any_bytes_have_a_text(data: bytes) -> None:
    lines = split_lines(decode(data))
    assert len(read(lines)) == len(lines)
    is_binary(data)


@given(st.lists(st.sampled_from([*LOG, *DUMP, "", "août"]), min_size=2))
@example(["août"] * 40)
@pytest.mark.parametrize(
    ("codec", "mark"),
    [
        ("utf-8", b""),
        ("utf-8", codecs.BOM_UTF8),
        ("utf-16-le", codecs.BOM_UTF16_LE),
        ("utf-16-be", codecs.BOM_UTF16_BE),
        ("utf-16-le", b""),
        ("utf-16-be", b""),
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_text_is_the_same_in_every_encoding(codec: str, mark: bytes, end: str, lines: list[str]) -> None:
    data = mark + end.join([LOG[0], *lines]).encode(codec)
    assert split_lines(decode(data)) == [LOG[0], *lines]
    assert not is_binary(data)


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("\x1b[32m[    0.000000] \x1b[0mLinux", "[    0.000000] Linux"),
        ("ESC[32m[    0.000000] ESC[0mLinux", "[    0.000000] Linux"),
        ("^[[32m[    0.000000] ^[[0mLinux", "[    0.000000] Linux"),
        ("[\xa0\xa0\xa0\xa00.000000] Linux\r\r", "[    0.000000] Linux"),
        ("\0\0[    0.000000] Linux\0", "[    0.000000] Linux"),
        ("\ufeff\u200b[    0.000000] Linux", "[    0.000000] Linux"),
        ("\tindented\t\n", "\tindented\t"),
        ("&gt; &lt;6&gt;[    0.000000] A &amp; B&#39;s", "> <6>[    0.000000] A & B's"),
        ("[COLOR=#000000][FONT=arial][    0.168985] acpi[/FONT][/COLOR]", "[    0.168985] acpi"),
        ("x" * (MAX_LINE + 9), "x" * MAX_LINE),
    ],
)
def test_a_line_is_read_as_it_was_meant(line: str, text: str) -> None:
    assert clean_line(line) == text


@pytest.mark.parametrize(
    ("data", "binary"),
    [
        (b"\x7fELF\x02\x01\x01" + bytes(3000), True),
        (bytes(range(256)) * 4, True),
        (b"\x86\x80\x29\x10" + bytes(60), True),
        (b"\0\0\0[    0.000000] Linux version 6.1\n", False),
        ("Straße, août 25\n".encode("latin-1"), False),
    ],
)
def test_bytes_that_are_no_text_are_known(data: bytes, *, binary: bool) -> None:
    assert is_binary(data) is binary


@pytest.mark.parametrize(
    ("data", "hint"),
    [
        (gzip.compress(b"x"), "zcat dump.gz | testbed pci lint -"),
        (b"PK\x03\x04rest", "unzip -p dump.gz | testbed pci lint -"),
        (b"LPKSHHRH\0", "journalctl -k --file dump.gz | testbed pci lint -"),
    ],
)
def test_what_has_to_be_unpacked_is_refused_with_what_unpacks_it(data: bytes, hint: str) -> None:
    with pytest.raises(InputError) as caught:
        refuse_packed(data, source="dump.gz", command="testbed pci lint -")
    assert caught.value.hint == hint
    refuse_packed(b"text", source="dump.txt", command="testbed pci lint -")


def test_quoted_printable_is_told_by_its_wraps() -> None:
    assert split_lines("root=3D/dev/vda pcie_aspm=3Doff=\n x")[0] == "root=/dev/vda pcie_aspm=off="
    assert split_lines("dev=3D x\n") == ["dev=3D x", ""]


def test_a_stream_is_decoded_by_how_it_begins() -> None:
    assert encoding_of("[    0.000000] Linux\n".encode("utf-16-le")) == "utf-16-le"
    assert encoding_of(b"[    0.000000] Linux\n") == "utf-8"
    assert encoding_of(b"") == "utf-8"


@pytest.mark.parametrize("piece", ["> ", "1:", "a:", "[0.1] ", "00:00:00 ", "\t", "x | ", "{", '{"log":', "[a] "])
def test_a_long_repetitive_line_is_read_in_linear_time(piece: str) -> None:
    # a quadratic reader would take minutes for this: the test suite's patience is the limit
    lines = split_lines(piece * (500_000 // len(piece)) + "\n" + (piece * 20 + "\n") * 3000)
    assert len(read(lines)) == 3002
