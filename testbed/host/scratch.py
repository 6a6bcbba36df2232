"""A folder for a while, which the next run removes should this one be killed."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from testbed.host.claim import claimed
from testbed.host.host import PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def scratch_folder(purpose: str) -> Iterator[Path]:
    """Yield an empty private folder in the temporary folder; its name tells the purpose."""
    with tempfile.TemporaryDirectory(prefix=f"{PREFIX}{purpose}-") as name:
        folder = Path(name)
        with claimed(folder):
            yield folder
