"""The cache folder: what the test bed can make again."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder(name: str) -> Path:
    """Return a folder below `$TESTBED_CACHE`, else below `testbed` in `$XDG_CACHE_HOME`, made if need be."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(os.environ.get("TESTBED_CACHE") or Path(base) / "testbed") / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder
