"""File locks: flock(2), the kind that the kernel lets go of however its holder ends.

A file system may have none: Lustre unless mounted with `flock` (ENOSYS), NFS without a lock manager (ENOLCK), some FUSE
servers (EOPNOTSUPP). NFS locks no folder, which cannot be opened for writing (EBADF, flock(2)). Or a file system grants
a lock to everybody who asks. All this is refused, since two processes would take each other's unfinished files for
left-overs.
"""

from __future__ import annotations

import errno
import fcntl
import os
from contextlib import suppress
from pathlib import Path

from testbed.model.errors import InputError

_WITHOUT = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTTY, errno.EBADF)
#: file systems, by their device number, whose locks were seen to keep others out
_PROVEN: set[int] = set()


def lock(descriptor: int, *, wait: bool = True, shared: bool = False) -> bool:
    """Lock an open file; return whether that succeeded, which it always does if it may wait.

    Raises InputError if its file system has no locks that keep others out.
    """
    operation = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB)
    try:
        fcntl.flock(descriptor, operation)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in _WITHOUT:
            raise _refusal(descriptor, os.strerror(error.errno)) from None
        raise
    if not shared:
        _prove(descriptor)
    return True


def _prove(descriptor: int) -> None:
    """Try for a second lock of the same file, once a file system: it must be refused."""
    device = os.fstat(descriptor).st_dev
    if device in _PROVEN:
        return
    with suppress(OSError):  # no /proc: nothing is known
        second = os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _PROVEN.add(device)
        else:
            raise _refusal(descriptor, "two processes were given the same lock")
        finally:
            os.close(second)


def _refusal(descriptor: int, why: str) -> InputError:
    path = Path(f"/proc/self/fd/{descriptor}").readlink()
    return InputError(
        f"{path}: file locks do not work there: {why}",
        hint="use a local file system: TESTBED_CACHE=FOLDER for the cache, --rundir FOLDER for the logs, TMPDIR=FOLDER",
    )
