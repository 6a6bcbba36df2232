"""A fingerprint of the host's files an image was made of: it tells whether one of them has changed since.

Names, sizes and times are taken, not contents: a vmlinux with its debug information has a gigabyte, and the question
is asked before every boot. Whoever writes a file moves its time; a rebuild for nothing costs ten seconds.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


def fingerprint(files: Iterable[Path]) -> str:
    """Return the sha256 over path, size and time of the files; the empty string for no files."""
    facts = sorted(_fact(path) for path in files)
    return hashlib.sha256("\n".join(facts).encode(errors="surrogateescape")).hexdigest() if facts else ""


def _fact(path: Path) -> str:
    try:
        status = path.stat()
    except OSError as error:
        return f"{path} {error.errno}"
    return f"{path} {status.st_size} {status.st_mtime_ns}"
