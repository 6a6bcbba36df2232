"""The building of an image: from a recipe to the files of an image in a folder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from testbed.host.tools import find_tool
from testbed.image.cpio import regular
from testbed.image.disk.disk_kernel import DiskKernel
from testbed.image.drivers import add_drivers
from testbed.image.elf import is_elf64, program_size, without_sections
from testbed.image.files import read_files
from testbed.image.initramfs import compile_init, compile_probe, pack_initramfs
from testbed.image.kernel import extract_vmlinux, has_pvh_entry, read_header
from testbed.image.key import BZIMAGE, INITRAMFS, VMLINUX, find_tools, init_files, probe_file
from testbed.image.modules import stage_modules
from testbed.model.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from testbed.image.cpio import Tree
    from testbed.image.modules import ModuleSet
    from testbed.image.recipe import Recipe
    from testbed.image.source import Progress

#: in the guest: see guest-images/whole.c
_ROOT_FILE = "whole"
#: what the guest finds the disk with
_DISK_DRIVERS = ("virtio_pci", "virtio_blk")


@dataclass(frozen=True, kw_only=True)
class Built:
    """What the building found out that the files do not say."""

    kernel: str
    package: str
    modules: tuple[str, ...]
    absent: tuple[str, ...]


def build_members(recipe: Recipe, folder: Path, scratch: Path, progress: Progress) -> Built:
    """Build bzImage (if there is one), vmlinux (where QEMU can start it) and initramfs into `folder`."""
    tools = find_tools(recipe)
    fetched = recipe.source().fetch(scratch, progress, recipe.modules)
    _place_kernel(fetched.kernel.read_bytes(), folder, fetched.package)
    drivers = add_drivers(recipe.driver_files, fetched, scratch, progress)
    progress(f"packing the guest of {fetched.package}")
    stage = scratch / "stage"
    modules = stage_modules(fetched.modules, [*recipe.modules, *drivers], stage)
    compile_init([path for path in init_files() if path.suffix == ".c"], scratch / "init")
    compile_probe(probe_file(), scratch / "mmio-probe")
    archive = pack_initramfs(
        init=scratch / "init",
        probe=scratch / "mmio-probe",
        busybox=find_tool("busybox"),
        tools=tools,
        modules=stage,
        files=read_files(recipe.files) | _root_file(recipe, modules, progress),
        programs=[file.path for file in recipe.files],
    )
    (folder / INITRAMFS).write_bytes(archive)
    return Built(kernel=fetched.release, package=fetched.package, modules=modules.names, absent=modules.absent)


def _root_file(recipe: Recipe, modules: ModuleSet, progress: Progress) -> Tree:
    """Return the file that tells the guest where the root of its disk is, if it is to switch to that.

    Raises InputError if there is no such root, or its kernel could not find it.
    """
    if not recipe.whole:
        return {}
    source = recipe.source()
    if not isinstance(source, DiskKernel):
        raise InputError(f"--whole: {recipe.kernel} has no user space of its own", hint="give a disk: disk:FILE")
    root = source.root(progress)
    lacking = {*_DISK_DRIVERS, root.type} & set(modules.absent)
    if lacking:
        raise InputError(
            f"--whole: the kernel of {recipe.kernel} has no {', '.join(sorted(lacking))}: it could not find its root",
            hint="name another kernel of the disk: kernel=RELEASE; without --whole this one can run",
        )
    return {_ROOT_FILE: regular(root.line().encode())}


def _place_kernel(kernel: bytes, folder: Path, package: str) -> None:
    """Write a bzImage and the vmlinux in it, or a vmlinux alone; raise InputError if QEMU can start neither."""
    if is_elf64(kernel):
        if program_size(kernel) > len(kernel):
            raise InputError(f"reading kernel {package}: it is truncated", hint="rebuild it, or copy it again")
        if not has_pvh_entry(kernel):
            raise InputError(
                f"reading kernel {package}: QEMU cannot boot this vmlinux: it has no PVH entry (CONFIG_PVH)",
                hint="give the bzImage of the same build",
            )
        (folder / VMLINUX).write_bytes(without_sections(kernel))
        return
    vmlinux = extract_vmlinux(read_header(kernel, source=package), source=package)
    (folder / BZIMAGE).write_bytes(kernel)
    if has_pvh_entry(vmlinux):
        (folder / VMLINUX).write_bytes(vmlinux)
