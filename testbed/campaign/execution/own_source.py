"""What tells one state of the test bed's own code from another."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

import testbed


@cache
def own_source() -> str:
    """Return a hash of every module of the test bed: runs with the same one obey the same code."""
    package = Path(testbed.__file__).parent
    digest = hashlib.sha256(testbed.__version__.encode())
    for path in sorted(package.rglob("*.py")):
        digest.update(f"{path.relative_to(package)}\0".encode() + path.read_bytes())
    return digest.hexdigest()
