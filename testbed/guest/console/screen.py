"""A terminal's screen, as far as boot loaders draw on one (ECMA-48; 24 lines of 80 characters)."""

from __future__ import annotations

import re

ROWS, COLUMNS = 24, 80
#: what is longer is no sequence of a loader's, and shown as text: a guest that never ends one is not waited for
_TOKEN = re.compile(
    r"\x1b\[(?P<numbers>[0-?]{0,32})[ -/]{0,4}(?P<final>[@-~])|\x1b[()][0-9A-Za-z]|\x1b[=>78Mc]|(?P<one>[^\x1b])"
)
#: what may be the begin of a sequence
_BEGUN = re.compile(r"\x1b(?:\[[0-?]{0,32}[ -/]{0,4}|[()])?\Z")


class Screen:
    """What stands where, and where the cursor is."""

    def __init__(self) -> None:
        self._cells = [[" "] * COLUMNS for _ in range(ROWS)]
        self._rest = ""
        #: of the cursor, from 0
        self.row = 0
        self.column = 0

    @property
    def rows(self) -> list[str]:
        """Return the lines."""
        return ["".join(line) for line in self._cells]

    def feed(self, text: str) -> None:
        """Take what is printed."""
        text = self._rest + text
        begun = _BEGUN.search(text)
        self._rest = text[begun.start() :] if begun else ""
        for match in _TOKEN.finditer(text[: begun.start()] if begun else text):
            if match["one"]:
                self._print(match["one"])
            elif match["final"]:
                self._obey(match["final"], [int(each) for each in match["numbers"].split(";") if each.isdecimal()])

    def _print(self, character: str) -> None:
        if character == "\r":
            self.column = 0
        elif character == "\n":
            self._next_line()
        elif character == "\b":
            self.column = max(0, self.column - 1)
        elif character.isprintable():
            if self.column == COLUMNS:
                self.column = 0
                self._next_line()
            self._cells[self.row][self.column] = character
            self.column += 1

    def _next_line(self) -> None:
        if self.row < ROWS - 1:
            self.row += 1
        else:
            self._cells = [*self._cells[1:], [" "] * COLUMNS]

    def _obey(self, final: str, numbers: list[int]) -> None:
        first = numbers[0] if numbers else 0
        if final in "Hf":
            self._go((first or 1) - 1, (numbers[1] if len(numbers) > 1 else 1) - 1)
        elif final in "AB":
            self._go(self.row + (first or 1) * (1 if final == "B" else -1), self.column)
        elif final in "CD":
            self._go(self.row, self.column + (first or 1) * (1 if final == "C" else -1))
        elif final == "J":
            self._clear(self.row, self.column if first == 0 else 0)
            for row in range(0 if first == 2 else self.row + 1, ROWS):
                self._clear(row, 0)
        elif final == "K":
            self._clear(self.row, 0 if first == 2 else self.column)

    def _go(self, row: int, column: int) -> None:
        self.row = min(max(row, 0), ROWS - 1)
        self.column = min(max(column, 0), COLUMNS - 1)

    def _clear(self, row: int, column: int) -> None:
        self._cells[row][column:] = [" "] * (COLUMNS - column)
