"""The cache folder: what the test bed can make again."""

from __future__ import annotations

import os
from pathlib import Path


def cache_path(name: str) -> Path:
    """Return where a folder is, or would be: below `$TESTBED_CACHE`, else below `testbed` in `$XDG_CACHE_HOME`."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("TESTBED_CACHE") or Path(base) / "testbed") / name


def in_cache(path: str) -> bool:
    """Return whether a file or folder is one of the cache, or would be."""
    return Path(path).absolute().is_relative_to(cache_path("").absolute())


def cache_folder(name: str) -> Path:
    """Return a folder of the cache, made if need be."""
    folder = cache_path(name)
    folder.mkdir(parents=True, exist_ok=True)
    return folder
