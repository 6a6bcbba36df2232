"""What a QEMU answered, remembered: a start takes a tenth of a second, and the answers change with its files alone.

A script in a QEMU's place is asked each time: what it says may depend on anything.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from testbed.host.kept_answer import kept_answer

if TYPE_CHECKING:
    from collections.abc import Callable

#: changes when an answer would be another for the same files
_FORMAT = 1
_ELF = b"\x7fELF"
#: below the folder above the binary's
_MODULES = ("lib/x86_64-linux-gnu/qemu", "lib64/qemu", "lib/qemu")
_MODULES_ELSEWHERE = "QEMU_MODULE_DIR"


def remembered(binary: Path, question: str, ask: Callable[[], Any]) -> Any:
    """Return a binary's answer, a JSON value: the one kept while its files are as they were, else what `ask` returns.

    What `ask` raises is not kept. A host whose cache cannot be used asks each time.
    """
    try:
        state = _state(binary)
    except OSError:
        return ask()
    return ask() if state is None else kept_answer("qemu-answers", str(binary), state, question, ask)


def _state(binary: Path) -> str | None:
    """Return what differs once a QEMU may answer otherwise: its file, its modules; None for what is no program."""
    with binary.open("rb") as file:
        if file.read(len(_ELF)) != _ELF:
            return None
    real, elsewhere = binary.resolve(), os.environ.get(_MODULES_ELSEWHERE, "")
    places = [real, *(real.parent.parent / name for name in _MODULES), *([Path(elsewhere)] if elsewhere else [])]
    found = [(str(place), place.stat()) for place in places if place.exists()]
    seen = [[name, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns] for name, info in found]
    return json.dumps([_FORMAT, seen])
