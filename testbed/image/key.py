"""The key of an image, which says what it was asked to be; and the names of its files."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from testbed.host.tools import find_tool
from testbed.model.catalog import shipped_folder

if TYPE_CHECKING:
    from pathlib import Path

    from testbed.image.recipe import Recipe

#: raise it whenever the same inputs would give another image, or something else is kept of one: each version of the
#: test bed then has its own, and two that share a cache do not take each other's away
FORMAT = 1

BZIMAGE, VMLINUX, INITRAMFS = "bzimage", "vmlinux", "initramfs"


def image_key(name: str, recipe: Recipe) -> str:
    """Return the sha256 of what an image was asked to be, save what archive and host hold under the names it gives."""
    digest = hashlib.sha256(f"{FORMAT}\0{name}\0{recipe.canonical()}\0".encode())
    for path in (*init_files(), probe_file(), find_tool("busybox"), *find_tools(recipe)):
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def find_tools(recipe: Recipe) -> list[Path]:
    """Return where the recipe's tools lie on this host; raise BedError for one it lacks."""
    return [find_tool(tool) for tool in recipe.tools]


def init_files() -> list[Path]:
    """Return the sources of the guest's init."""
    return [
        shipped_folder("guest-images") / name
        for name in (
            *("init.c", "load.c", "nic.c", "port.c", "reader.c", "relay.c", "verbs.c", "vfio.c", "whole.c", "writer.c"),
            *("array.c", "device.c", "identify.c", "volume-group.c"),
            *("device.h", "load.h", "verbs.h", "whole.h"),
        )
    ]


def probe_file() -> Path:
    """Return the source of the MMIO probe."""
    return shipped_folder("guest-images") / "probe.c"
