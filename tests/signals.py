"""Signals of a program that a test starts."""

from __future__ import annotations

import signal


def heed_signals() -> None:
    """Let a child heed what this process may ignore: one that nohup started, or a script in the background."""
    for number in (signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
