"""What every command that runs cells shows meanwhile: the phase of each, in place on a terminal."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Generic, TypeVar

from rich.live import Live

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from rich.console import Console, RenderableType

Key = TypeVar("Key")


class LiveView(Generic[Key]):
    """Keeps the running cells, each with its phase and when it began, and draws them where there is a terminal."""

    def __init__(self, console: Console, *, refresh_per_second: int = 8) -> None:
        self._console = console
        self._running: dict[Key, tuple[str, float]] = {}
        self._refresh_per_second = refresh_per_second
        self._live: Live | None = None

    def __enter__(self) -> Self:
        if self._in_place:
            often = self._refresh_per_second
            self._live = Live(
                console=self._console, refresh_per_second=often, transient=True, get_renderable=self.__rich__
            )
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    @property
    def _in_place(self) -> bool:
        """Return whether lines can be drawn over: on a terminal that moves its cursor, and not in a CI job's log.

        `is_terminal` alone would also be true of a file, with FORCE_COLOR.
        """
        console = self._console
        logged = os.environ.get("CI", "").lower() not in ("", "0", "false")
        return console.is_terminal and console.file.isatty() and not console.is_dumb_terminal and not logged

    def __rich__(self) -> RenderableType:
        """Return what is shown in place."""
        raise NotImplementedError

    def _enters(self, key: Key, phase: str) -> None:
        """Note the phase of a running cell."""
        started = self._running[key][1] if key in self._running else time.monotonic()
        self._running[key] = (phase, started)
