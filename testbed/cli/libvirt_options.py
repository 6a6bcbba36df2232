"""What `testbed render --from-libvirt` prints: the command that recreates a domain, and what became of its parts."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from testbed.machine.libvirt import recreate
from testbed.machine.libvirt_domain import LibvirtDomain

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from testbed.machine.libvirt import Remark


def libvirt_options(path: Path) -> Iterator[str]:
    """Return the lines to print; they can be pasted as a whole, what is no command being comments."""
    made = recreate(LibvirtDomain.read(path))
    options = made.options()
    yield _command("testbed", "render", made.template, *options)
    yield _command("testbed", "run", "disk-unplug", "--machine", made.template, *options)
    yield from _remarks(f"taken over from {path}:", made.kept)
    yield from _remarks("left out:", made.left_out)


def _remarks(head: str, remarks: Sequence[Remark]) -> Iterator[str]:
    if remarks:
        yield f"# {head}"
    for remark in remarks:
        yield f"#   line {remark.line}: {' '.join(remark.words.split())}"


def _command(*words: str) -> str:
    return shlex.join(words)
