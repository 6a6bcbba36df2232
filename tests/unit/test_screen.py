"""A terminal's screen as boot loaders draw on it, and GRUB's menu on one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.guest.console.loader_menu import LoaderMenu
from testbed.guest.console.screen import COLUMNS, ROWS, Screen
from testbed.model.errors import BootError, InputError
from tests.unit.test_own_boot import GRUB, LOADING, LOGIN, Line, followed_with, machine_of

if TYPE_CHECKING:
    from pathlib import Path

#: of an entry, as GRUB's editor shows it
ENTRY = [
    "setparams 'Debian GNU/Linux'",
    "",
    "insmod gzio",
    "linux\t/vmlinuz root=LABEL=root ro quiet",
    "initrd\t/initrd.img",
]
MENU = b"      before booting or `c' for a command-line.\x1b[5;80H \x1b[7m\x1b[5;3H*Debian GNU/Linux\x1b[m\x1b[5;78H"


def screen_of(text: str) -> Screen:
    screen = Screen()
    screen.feed(text)
    return screen


def test_words_stand_where_they_are_put() -> None:
    screen = screen_of("\x1b[2J\x1b[5;3H\x1b[7m*Debian\x1b[m\x1b[6;3H Other\x1b[5;78H")
    assert [row.strip() for row in screen.rows[3:6]] == ["", "*Debian", "Other"]
    assert (screen.row, screen.column) == (4, 77)


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("abc\rx", "xbc"),
        ("abc\b\bx", "axc"),
        ("abc\x1b[1;2H\x1b[K", "a"),
        ("abc\x1b[2Jx", "   x"),
        ("abc\x1b[3D.", ".bc"),
    ],
)
def test_how_a_cursor_moves(text: str, first: str) -> None:
    assert screen_of(text).rows[0].rstrip() == first


def test_a_sequence_without_end_is_neither_kept_nor_a_number() -> None:
    """A number of 5000 digits ended the console's reader, which then nobody read."""
    screen = screen_of("")
    screen.feed("\x1b[" + "9" * 5000 + "H")
    assert screen.rows[ROWS - 1].rstrip().endswith("H")
    fed = screen_of("")
    for _ in range(50):
        fed.feed("\x1b[" + "9" * 100)
    assert len(fed._rest) < 64


def test_a_long_line_goes_on_in_the_next_and_the_last_scrolls() -> None:
    assert screen_of("x" * (COLUMNS + 1)).rows[1][0] == "x"
    assert screen_of("first\n" + "\n" * (ROWS - 1) + "\rlast").rows[-1].strip() == "last"


@given(
    st.lists(
        st.sampled_from(["\x1b[", "5", ";", "3", "H", "J", "K", "a", "\r", "\n", "\x1b", "(B", "?25l"]), max_size=60
    )
)
def test_pieces_make_what_the_whole_makes(pieces: list[str]) -> None:
    screen = Screen()
    for piece in pieces:
        screen.feed(piece)
    whole = screen_of("".join(pieces))
    assert (screen.rows, screen.row, screen.column) == (whole.rows, whole.row, whole.column)


class Grub:
    """Draws a menu and an editor, and obeys keys, as GRUB does."""

    def __init__(self, line: Line, *, entry: list[str]) -> None:
        self._line = line
        self.entry = list(entry)
        self._at = 0

    async def run(self) -> str:
        """Show the menu and return the entry that is booted."""
        await self._line.say(GRUB + MENU)
        await self._line.hear(b"e")
        await self._line.say(b"\x1b[2J\x1b[18;6HMinimum Emacs-like screen editing is supported.")
        await self._draw()
        while (key := await self._line.key()) != b"\x18":
            if key == b"\x0e":
                self._at = min(self._at + 1, len(self.entry) - 1)
                await self._line.say(b"\x1b[%d;3H" % (6 + self._at))
            elif key == b"\x05":
                await self._line.say(b"\x1b[%d;30H" % (6 + self._at))
            else:
                self.entry[self._at] += key.decode()
                await self._draw()
        return "\n".join(self.entry)

    async def _draw(self) -> None:
        for number, text in enumerate(self.entry):
            wide = text.expandtabs(4)
            await self._line.say(f"\x1b[{6 + number};3H{wide[:76]}".encode())
        await self._line.say(b"\x1b[%d;3H" % (6 + self._at))


async def test_options_are_added_to_the_line_that_starts_a_kernel(tmp_path: Path) -> None:
    booted: list[str] = []

    async def peer(line: Line) -> None:
        booted.append(await Grub(line, entry=ENTRY).run())
        await line.say(LOADING + LOGIN)

    boot = await followed_with(peer, tmp_path, cmdline="pci=nomsi x=a;b")
    assert boot.stop == ""
    assert booted == ["\n".join([*ENTRY[:3], f"{ENTRY[3]} pci=nomsi 'x=a;b'", ENTRY[4]])]


async def test_an_entry_that_starts_no_kernel_is_told_as_it_stands(tmp_path: Path) -> None:
    async def peer(line: Line) -> None:
        await Grub(line, entry=["setparams 'Windows'", "chainloader +1"]).run()

    with pytest.raises(BootError, match=r"(?s)no line of its entry starts a kernel:.*chainloader \+1"):
        await followed_with(peer, tmp_path, cmdline="pci=nomsi")


async def test_an_entry_is_chosen_by_its_number(tmp_path: Path) -> None:
    async def peer(line: Line) -> None:
        await line.say(MENU)
        for key in (b"\x01", b"\x0e", b"\x0e"):
            await line.hear(key)
            await line.say(b"\x1b[7m\x1b[6;3H*Other\x1b[m")
        await line.hear(b"\r")
        await line.say(LOADING + LOGIN)

    assert (await followed_with(peer, tmp_path, entry=3)).stop == ""


async def test_quotes_cannot_be_added(tmp_path: Path) -> None:
    async def peer(line: Line) -> None:
        await Grub(line, entry=ENTRY).run()

    async with machine_of(peer, tmp_path) as machine:
        await machine.qmp.execute("cont")
        with pytest.raises(InputError, match="quotes are GRUB's own"):
            await asyncio.wait_for(LoaderMenu(machine).choose(0, 'dyndbg="file a"'), 30)
