"""Waiting for what another process does, which cannot be awaited."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

#: no test waits this long unless it fails
PATIENCE = 120.0


def eventually(true: Callable[[], object]) -> bool:
    """Return whether something came true."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if true():
            return True
        time.sleep(0.005)
    return False
