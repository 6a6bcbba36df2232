"""A row of a hex dump: an offset and bytes, as lspci, xxd, hexdump, od, U-Boot, the UEFI shell and the kernel print it.

Sources: pciutils lspci.c, show_hex_dump(): two or three digits, a colon, 16 bytes; xxd (groups of 2 in the order of the
bytes, with -e of 4 turned round); BSD hexdump and GNU od (without -C or -t x1 groups of 2 turned round, od's offsets in
octal); U-Boot cmd/pci.c (`pci display.l`: groups of 4 turned round); Linux lib/hexdump.c.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

#: by far the most: read without a further look
_LSPCI = re.compile(r"([0-9a-fA-F]{2,3}): ((?:[0-9a-fA-F]{2} ){15}[0-9a-fA-F]{2})[ \t]{0,8}")
_ROW = re.compile(r"(?P<offset>[0-9a-fA-F]{2,3}|[0-9a-fA-F]{6,8})(?P<colon>:?)[ \t]{1,8}(?P<rest>[0-9a-fA-F].*)")
#: hexdump's |…| , od's >…<, the UEFI shell's *…*
_ASCII = re.compile(r"[ \t]{1,8}(?:\|.{0,64}\||>.{0,64}<|\*.{0,64}\*?)$")
_GAP = re.compile(r"[ \t]{2,}")
_GROUP = re.compile(r"(?:[0-9a-fA-F]{2}){1,4}")
_END = re.compile(r"[0-9a-fA-F]{6,8}")
HEXADECIMAL = 16
#: in which dumps count, the likeliest first: od in the other two
BASES = (HEXADECIMAL, 8, 10)
#: without a colon only the long offsets of hexdump and od are one
_LONG_OFFSET = 6
#: od -w32 and xxd -c 32 have that many
_MOST_BYTES = 64


@dataclass(frozen=True, kw_only=True)
class HexRow:
    """A row as it stands there; what is wrong with it is said, for only who knows its neighbours can tell."""

    offset: str  #: its digits: hexadecimal, octal or decimal
    data: bytes
    fault: str = ""  #: what is no byte; empty if all are

    def start(self, base: int) -> int | None:
        """Return its offset, counted in a base; None if its digits are of none."""
        # two or three digits are lspci's, which counts in hexadecimal alone
        if base != HEXADECIMAL and len(self.offset) < _LONG_OFFSET:
            return None
        try:
            return int(self.offset, base)
        except ValueError:
            return None

    @property
    def is_first(self) -> bool:
        """Return whether a dump begins with it."""
        return not self.offset.strip("0")


def parse_hex_row(text: str) -> HexRow | None:
    """Read a row; None if the line is none."""
    plain = _LSPCI.fullmatch(text)
    if plain:
        return HexRow(offset=plain[1], data=bytes.fromhex(plain[2]))
    match = _ROW.fullmatch(text.rstrip())
    if match is None or (not match["colon"] and len(match["offset"]) < _LONG_OFFSET):
        return None
    words = _words(match["rest"], colon=bool(match["colon"]))
    width = max(map(len, filter(_GROUP.fullmatch, words)), default=0)
    wrong = [word for word in words if not _GROUP.fullmatch(word) or len(word) != width]
    # more words than bytes are prose, such as `be: added`
    if width not in (2, 4, 8) or len(wrong) * 2 > len(words):
        return None
    if wrong:
        return HexRow(offset=match["offset"], data=b"", fault=f"{wrong[0][:20]!r} is not a two-digit hexadecimal byte")
    size = width // 2
    turned = size == 4 or (size == 2 and not match["colon"])
    data = b"".join(bytes.fromhex(word)[:: -1 if turned else 1] for word in words)
    return HexRow(offset=match["offset"], data=data[:_MOST_BYTES])


def is_hex_row(text: str) -> bool:
    """Return whether this is a whole row, of 16 bytes or more."""
    row = parse_hex_row(text)
    return row is not None and len(row.data) >= 16


def parse_end(text: str) -> HexRow | None:
    """Read the offset alone with which hexdump, od and xxd end a dump."""
    return HexRow(offset=text.strip(), data=b"") if _END.fullmatch(text.strip()) else None


def _words(rest: str, *, colon: bool) -> list[str]:
    """Return the groups of a row, without the characters beside them."""
    rest = _ASCII.sub("", rest)
    if colon:
        rest = _GAP.split(rest, maxsplit=1)[0]
    return rest.replace("-", " ").split()
