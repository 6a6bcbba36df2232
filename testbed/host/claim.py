"""Claim: the mark in a folder of the test bed's that says whether its process still lives; private folders with one.

The mark is a file that its process holds locked. The kernel lets go of the lock however that process ends, and a
process that happens to get the same number later does not hold it.
"""

from __future__ import annotations

import contextlib
import enum
import os
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from testbed.host.file_lock import lock

if TYPE_CHECKING:
    from collections.abc import Iterator

MARK = ".testbed"
#: how the names of private folders begin
PREFIX = "testbed-"
_FIRST_WORDS = b"a folder of the test bed's, claimed by process "


class Claim(enum.Enum):
    """Whose a folder is."""

    NONE = "not the test bed's"
    LIVE = "in use"
    LEFT = "its process is gone"


@contextlib.contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Hold a folder's claim; the mark stays behind, unless the folder is removed."""
    descriptor, draft = tempfile.mkstemp(prefix=MARK, dir=folder)
    try:
        os.write(descriptor, _FIRST_WORDS + f"{os.getpid()}\n".encode())
        lock(descriptor)
        # under its name only once it is locked: nobody may ever see it unheld while its process lives
        Path(draft).rename(folder / MARK)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def scratch_folder(purpose: str) -> Iterator[Path]:
    """Yield an empty private folder in the temporary folder; its name tells the purpose.

    The next run removes it should this one be killed.
    """
    with tempfile.TemporaryDirectory(prefix=f"{PREFIX}{purpose}-") as name:
        folder = Path(name)
        with claimed(folder):
            yield folder


def read_claim(folder: Path) -> Claim:
    """Return whose a folder is; symlinks and other users' folders are nobody's."""
    try:
        if folder.is_symlink() or folder.stat().st_uid != os.geteuid():
            return Claim.NONE
        # a fifo would make a plain open wait
        descriptor = os.open(folder / MARK, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return Claim.NONE
    try:
        return _read_mark(descriptor)
    finally:
        os.close(descriptor)


def _read_mark(descriptor: int) -> Claim:
    mark = os.fstat(descriptor)
    if not stat.S_ISREG(mark.st_mode) or mark.st_uid != os.geteuid():
        return Claim.NONE
    if os.read(descriptor, len(_FIRST_WORDS)) != _FIRST_WORDS:
        return Claim.NONE
    # shared: two who look at the same time do not take each other for its owner
    return Claim.LEFT if lock(descriptor, wait=False, shared=True) else Claim.LIVE
