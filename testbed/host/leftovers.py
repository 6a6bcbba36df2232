"""Leftovers: what a test bed that was killed left on this host.

Nothing counts as one unless it carries the test bed's own mark: a name alone proves nothing.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from pathlib import Path

from testbed.host.claim import MARK, PREFIX, Claim, read_claim
from testbed.host.host import runtime_folder

_RUN_NAME = re.compile(r"\d{8}-\d{6}-\d+")
#: what only a run writes, below its rundir
_RUN_RECORDS = ("*/report.json", "*/*/outcome.json")
_QMP_SOCKET = "socket,id=qmp,path="


def temp_places() -> list[Path]:
    """Return the folders in which private folders are made."""
    places = (runtime_folder(), tempfile.gettempdir())
    return list(dict.fromkeys(Path(place) for place in places if place))


def stale_temp_folders() -> list[Path]:
    """Return the private folders whose process is gone."""
    folders = (folder for place in temp_places() for folder in sorted(place.glob(f"{PREFIX}*")))
    return [folder for folder in folders if read_claim(folder) is Claim.LEFT]


def old_rundirs(base: Path) -> list[Path]:
    """Return the rundirs below `base` that no run is writing to, the oldest first."""
    return [folder for folder in sorted(base.glob("*")) if _is_old_rundir(folder)]


def orphans() -> list[int]:
    """Return the process ids of the user's QEMUs whose test bed is gone."""
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal() and _is_orphan(entry)]


def size_of(folder: Path) -> int:
    """Return how many bytes a folder takes on the disk; symlinks count as themselves."""
    total = 0
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            with contextlib.suppress(OSError):
                total += Path(place, name).lstat().st_blocks * 512
    return total


def qmp_socket(words: list[str]) -> Path | None:
    """Return the QMP socket on a test bed's QEMU command line; None for any other command."""
    path = next((word.removeprefix(_QMP_SOCKET) for word in words if word.startswith(_QMP_SOCKET)), "")
    socket = Path(path.replace(",,", ","))
    return socket if socket.is_absolute() and socket.parent.name.startswith(PREFIX) else None


def _is_old_rundir(folder: Path) -> bool:
    if folder.is_symlink() or not folder.is_dir() or not _RUN_NAME.fullmatch(folder.name):
        return False
    if (folder / MARK).exists():
        return read_claim(folder) is Claim.LEFT
    return any(next(folder.glob(record), None) for record in _RUN_RECORDS)


def _is_orphan(entry: Path) -> bool:
    """Tell whether a process of /proc is a QEMU whose private folder has lost its owner, or is gone."""
    try:
        if os.geteuid() not in (0, entry.stat().st_uid):  # root's QEMUs have users of their own
            return False
        words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
        socket = qmp_socket(words)
        if socket is None:
            return False
        # as that process sees it: it may live in a container with a /tmp of its own
        folder = entry / "root" / socket.parent.relative_to("/")
        return not folder.exists() or read_claim(folder) is Claim.LEFT
    except OSError:  # it ended meanwhile
        return False
