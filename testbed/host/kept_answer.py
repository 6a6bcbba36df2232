"""Answers that take long to find, kept on disk while what they depend on is as it was.

FOLDER/NAME     one file a subject, named by it: the state the answers were found in, and each by its question
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

#: seconds after which an answer is looked for again, so that those about what has gone do not stay
_KEPT_SECONDS = 30 * 86400


def kept_answer(folder: str, subject: str, state: str, question: str, ask: Callable[[], Any]) -> Any:
    """Return the answer to a question about a subject, a JSON value: the kept one of this state, else what `ask` does.

    What `ask` raises is not kept. A host whose cache cannot be used asks each time.
    """
    try:
        file = cache_folder(folder) / hashlib.sha256(os.fsencode(subject)).hexdigest()[:32]
    except OSError:
        return ask()
    if question not in (known := _answers(file, state)):
        answer = ask()
        # read again: another process may have written meanwhile
        _write(file, state, {**_answers(file, state), question: answer})
        return answer
    return known[question]


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
