"""How long a campaign still takes: what its queue expects, at the pace of what is done."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from testbed.campaign.execution.job_queue import JobQueue


class TimeLeft:
    """Begins when the first cell can run."""

    def __init__(self, queue: JobQueue) -> None:
        self._queue = queue
        self._planned = queue.seconds
        self._began = time.monotonic()

    def told(self, *, done: int, running: int) -> str:
        """Return it for people, with two blanks before it; nothing until as many are done as are running."""
        spent = self._planned - self._queue.seconds
        if spent <= 0 or done <= running:
            return ""
        return f"  {span(self._queue.seconds * (time.monotonic() - self._began) / spent)} left"


def span(seconds: float) -> str:
    """Return a duration for people."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
