"""The table of everything that reads what a user, a guest or a QEMU wrote, each as a function of bytes.

A target returns whatever it is given, or raises what is no error of the project's own: that is a find. What a user may
give wrong is an InputError; what a guest or a QEMU says is never an error at all, however odd it is.
"""

from __future__ import annotations

import contextlib
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@dataclass(frozen=True, kw_only=True)
class Target:
    """One reader, and how what it reads looks when it is right."""

    take: Callable[[bytes], object]
    seeds: Callable[[], list[bytes]]


TARGETS: dict[str, Target] = {}
_TOP = Path(__file__).resolve().parents[2]


def target(name: str, seeds: Callable[[], list[bytes]]) -> Callable[[Callable[[bytes], object]], None]:
    """Enter a reader into the table."""

    def enter(take: Callable[[bytes], object]) -> None:
        TARGETS[name] = Target(take=take, seeds=seeds)

    return enter


def files(*patterns: str) -> Callable[[], list[bytes]]:
    """Return what reads files of the checkout as seeds."""
    return lambda: [path.read_bytes() for pattern in patterns for path in sorted(_TOP.glob(pattern))]


def texts(*wanted: str) -> Callable[[], list[bytes]]:
    """Return what offers texts as seeds."""
    return lambda: [text.encode() for text in wanted]


@contextlib.contextmanager
def written(data: bytes, name: str) -> Iterator[Path]:
    """Write a file in a folder that goes again."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        path = Path(folder, name)
        path.write_bytes(data)
        yield path


def text_of(data: bytes) -> str:
    """Return text as it comes from a guest: bytes that are no UTF-8 are replaced."""
    return data.decode("utf-8", "replace")
