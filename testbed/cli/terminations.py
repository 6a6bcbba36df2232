"""The signals that end a command as Ctrl-C does: it ends its machines and removes its temporary files."""

from __future__ import annotations

import signal


def terminations() -> list[signal.Signals]:
    """Return SIGTERM and SIGHUP, but for one that is ignored: nohup wants a command to outlive its terminal."""
    return [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) is not signal.SIG_IGN]
