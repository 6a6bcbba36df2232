"""A kernel source: what puts a kernel and a modules tree into a folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

#: told one short line before each step that takes a while
Progress = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class FetchedKernel:
    """A kernel on the disk, unpacked."""

    kernel: Path  #: a bzImage or an ELF vmlinux
    modules: Path  #: `<anything>/lib/modules/<release>`, where depmod can work or has worked
    release: str  #: as `uname -r` gives it
    package: str  #: what a person calls this build, such as `linux-image-6.1.0-56-amd64 6.1.192-2`


class KernelSource(Protocol):
    """Where a recipe's kernel comes from."""

    def inputs(self) -> Sequence[Path]:
        """Return the host's files the kernel is made of; raise InputError if one is missing or unusable.

        An image is stale as soon as one of them has changed.
        """
        ...

    def fetch(self, folder: Path, progress: Progress) -> FetchedKernel:
        """Put the kernel into an empty folder; raise InputError if the source has no such kernel."""
        ...
