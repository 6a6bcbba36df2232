"""A process killed at a chosen moment of its work: at its Nth step on the file system, or at byte N of a file."""

from __future__ import annotations

import os
import resource
import signal
import sys
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    Work = Callable[[], object]

#: what Python tells its auditors of before it does it
_STEPS = {"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.symlink", "os.link", "os.truncate", "os.utime"}


def killed_at_step(number: int, work: Work) -> bool:
    """Do the work in a child that is killed just before its Nth step; return False if it ended before that."""

    def arm() -> None:
        left = [number]

        def count(event: str, _: object) -> None:
            if event in _STEPS:
                left[0] -= 1
                if left[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)

    return _ended_by(signal.SIGKILL, arm, work)


def killed_at_byte(number: int, work: Work) -> bool:
    """Do the work in a child that is killed when a file would grow beyond N bytes; return False if none did."""

    def arm() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (number, number))

    return _ended_by(signal.SIGXFSZ, arm, work)


def _ended_by(number: signal.Signals, arm: Work, work: Work) -> bool:
    with warnings.catch_warnings():
        # Python 3.12 warns of threads, pytest-xdist's; the child touches nothing of theirs
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        status = 1
        try:
            arm()
            work()
            status = 0
        finally:
            os._exit(status)
    _, ended = os.waitpid(child, 0)
    if os.WIFSIGNALED(ended):
        assert os.WTERMSIG(ended) == number
        return True
    assert os.WEXITSTATUS(ended) == 0, "the work failed by itself"
    return False
