"""What a QEMU answered, remembered: a start takes a tenth of a second, and the answers change with its files alone.

    FOLDER/NAME     one file a binary, named by its path: the state of its files, and its answers by what was asked

A script in a QEMU's place is asked each time: what it says may depend on anything.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import time
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from testbed.host.cache import cache_folder
from testbed.model.json_reader import parse_json, sealed, unsealed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

#: changes when an answer would be another for the same files
_FORMAT = 1
_ELF = b"\x7fELF"
#: below the folder above the binary's
_MODULES = ("lib/x86_64-linux-gnu/qemu", "lib64/qemu", "lib/qemu")
_MODULES_ELSEWHERE = "QEMU_MODULE_DIR"
#: seconds after which answers are asked for again, so that those of binaries that have gone do not stay
_KEPT_SECONDS = 30 * 86400


def remembered(binary: Path, question: str, ask: Callable[[], Any]) -> Any:
    """Return a binary's answer, a JSON value: the one kept while its files are as they were, else what `ask` returns.

    What `ask` raises is not kept. A host whose cache cannot be used asks each time.
    """
    try:
        state = _state(binary)
        file = cache_folder("qemu-answers") / hashlib.sha256(os.fsencode(binary)).hexdigest()[:32]
    except OSError:
        return ask()
    if state is None:
        return ask()
    if question not in (known := _answers(file, state)):
        answer = ask()
        # read again: another process may have written meanwhile
        _write(file, state, {**_answers(file, state), question: answer})
        return answer
    return known[question]


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


def _answers(file: Path, state: str) -> Mapping[str, Any]:
    """Return the answers of a file, if they were given in this state and not too long ago."""
    with contextlib.suppress(OSError):
        info = file.stat()
        if 0 <= time.time() - info.st_mtime < _KEPT_SECONDS:
            return _read(file, state, info.st_ino, info.st_mtime_ns)
    return {}


@lru_cache(maxsize=16)
def _read(file: Path, state: str, *_version: int) -> Mapping[str, Any]:
    with contextlib.suppress(OSError, ValueError):
        kept = unsealed(parse_json(file.read_bytes()))
        if kept.get("state") == state and isinstance(kept.get("answers"), dict):
            return dict(kept["answers"])
    return {}


def _write(file: Path, state: str, answers: Mapping[str, Any]) -> None:
    """Put a file in place as a whole, and remove those that are too old."""
    with contextlib.suppress(OSError):
        descriptor, draft = tempfile.mkstemp(prefix=f"{file.name}.", dir=file.parent)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as writing:
                json.dump(sealed({"state": state, "answers": answers}), writing)
            Path(draft).replace(file)
        except OSError:
            Path(draft).unlink(missing_ok=True)
        for other in file.parent.iterdir():
            if time.time() - other.stat().st_mtime >= _KEPT_SECONDS:
                other.unlink()
