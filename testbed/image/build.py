"""The building of an image: from a recipe to the files of an image in a folder."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from testbed.host.tools import find_tool
from testbed.image.initramfs import compile_init, pack_initramfs
from testbed.image.kernel import extract_vmlinux, has_pvh_entry, read_header
from testbed.image.modules import stage_modules
from testbed.model.catalog import shipped_folder

if TYPE_CHECKING:
    from pathlib import Path

    from testbed.image.recipe import Recipe
    from testbed.image.source import Progress

#: raise it whenever the same inputs would give another image
FORMAT = 1

BZIMAGE, VMLINUX, INITRAMFS = "bzimage", "vmlinux", "initramfs"


@dataclass(frozen=True, kw_only=True)
class Built:
    """What the building found out that the files do not say."""

    kernel: str
    package: str
    modules: tuple[str, ...]
    absent: tuple[str, ...]


def image_key(name: str, recipe: Recipe) -> str:
    """Return the sha256 of everything that decides an image's content, save what the archive holds today."""
    digest = hashlib.sha256(f"{FORMAT}\0{name}\0{recipe.canonical()}\0".encode())
    for path in (_init_source(), find_tool("busybox"), *find_tools(recipe)):
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def find_tools(recipe: Recipe) -> list[Path]:
    """Return where the recipe's tools lie on this host; raise BedError for one it lacks."""
    return [find_tool(tool) for tool in recipe.tools]


def build_members(recipe: Recipe, folder: Path, scratch: Path, progress: Progress) -> Built:
    """Build bzImage, vmlinux (where QEMU can start it) and initramfs into `folder`, by way of `scratch`."""
    tools = find_tools(recipe)
    fetched = recipe.source().fetch(scratch, progress)
    _unpack_kernel(fetched.bzimage, folder, fetched.package)
    progress(f"packing the guest of {fetched.package}")
    stage = scratch / "stage"
    modules = stage_modules(fetched.modules, recipe.modules, stage)
    compile_init(_init_source(), scratch / "init")
    archive = pack_initramfs(init=scratch / "init", busybox=find_tool("busybox"), tools=tools, modules=stage)
    (folder / INITRAMFS).write_bytes(archive)
    return Built(kernel=fetched.release, package=fetched.package, modules=modules.names, absent=modules.absent)


def _unpack_kernel(bzimage: Path, folder: Path, package: str) -> None:
    content = bzimage.read_bytes()
    vmlinux = extract_vmlinux(read_header(content, source=package), source=package)
    shutil.copyfile(bzimage, folder / BZIMAGE)
    if has_pvh_entry(vmlinux):
        (folder / VMLINUX).write_bytes(vmlinux)


def _init_source() -> Path:
    return shipped_folder("guest-images") / "init.c"
