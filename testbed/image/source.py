"""A kernel source: what puts a bzImage and a modules tree into a folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pathlib import Path

#: told one short line before each step that takes a while
Progress = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class FetchedKernel:
    """A kernel on the disk, unpacked."""

    bzimage: Path
    modules: Path  #: `<anything>/lib/modules/<release>`, where depmod can work
    release: str  #: as `uname -r` gives it
    package: str  #: what a person calls this build, such as `linux-image-6.1.0-56-amd64 6.1.192-2`


class KernelSource(Protocol):
    """Where a recipe's kernel comes from."""

    def fetch(self, folder: Path, progress: Progress) -> FetchedKernel:
        """Put the kernel into an empty folder; raise InputError if the source has no such kernel."""
        ...
