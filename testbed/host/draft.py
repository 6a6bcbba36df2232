"""Draft: a file or folder that is being written beside its place, held locked by its writer.

The kernel lets go of the lock however the writer ends, so whoever finds a draft unlocked knows that it is left over.
One that is swept in the moment before it is locked is lost: its writer's next step fails with FileNotFoundError.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from typing import TYPE_CHECKING

from testbed.host.file_lock import lock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: how the name of a draft begins
DRAFT = "tmp-"


@contextlib.contextmanager
def held(draft: Path) -> Iterator[None]:
    """Hold a draft; raise OSError if it is gone."""
    descriptor = os.open(draft, os.O_RDONLY | os.O_CLOEXEC)
    try:
        lock(descriptor)
        yield
    finally:
        os.close(descriptor)


def sweep_drafts(folder: Path) -> None:
    """Remove the drafts in a folder whose writers are gone."""
    for path in folder.glob(f"{DRAFT}*"):
        with contextlib.suppress(OSError):
            _remove_unless_held(path)


def _remove_unless_held(path: Path) -> None:
    """Remove a draft unless it is held; raise OSError if it is gone."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if not lock(descriptor, wait=False):
            return
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    finally:
        os.close(descriptor)
