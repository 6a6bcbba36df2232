"""The files of a kernel's modules, where they lie on the host: installed in a folder, or left in a build tree.

They are a mapping from the name below `lib/modules/RELEASE` to the file. Nothing is ever written beside them: an
image is built from a folder of links to them.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from testbed.model.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

ModuleFiles = dict[str, Path]

BASES = ("lib/modules", "usr/lib/modules")


def installed_modules(folder: Path) -> ModuleFiles:
    """Return the modules and tables of a `lib/modules/RELEASE`."""
    # links to folders are not followed: `build` points to a whole source tree
    return {
        os.path.relpath(f"{base}/{name}", folder): Path(base, name)
        for base, _, names in os.walk(folder)
        for name in names
        if name.startswith("modules.") or ".ko" in name
    }


def built_modules(tree: Path) -> ModuleFiles:
    """Return what `make modules` left in a build tree, named as `make modules_install` would."""
    files = {name: tree / name for name in ("modules.builtin", "modules.builtin.modinfo") if (tree / name).is_file()}
    order = tree / "modules.order"
    if not order.is_file():
        return files
    for line in order.read_text(encoding="utf-8", errors="replace").split():
        place = _place_in_tree(tree, line)
        files[f"kernel/{place}"] = tree / place
    return files


def _place_in_tree(tree: Path, line: str) -> str:
    """Return a module's file below its tree, from a line of modules.order.

    Before Linux 6.2 lines begin with the `kernel/` of the installed name and end in .ko; since then they end in .o.
    """
    name = f"{line.rpartition('.')[0]}.ko"
    for place in (name, name.removeprefix("kernel/")):
        if (tree / place).is_file():
            return place
    raise InputError(
        f"looking for the modules of {tree}: modules.order names {line}, which is not built", hint=f"make -C {tree}"
    )


def is_build_tree(folder: Path) -> bool:
    """Tell whether a kernel was configured and built in a folder (the `O=` one, if source and build are apart)."""
    return (folder / "include" / "config" / "kernel.release").is_file()


def find_modules(folder: Path, release: str) -> ModuleFiles | None:
    """Return a kernel's modules below a root folder such as INSTALL_MOD_PATH, or None."""
    place = next((folder / base / release for base in BASES if (folder / base / release).is_dir()), None)
    return installed_modules(place) if place else None


def given_modules(folder: Path, release: str) -> ModuleFiles:
    """Return the modules in a folder that somebody names: a root folder, a `lib/modules/RELEASE` or a build tree.

    Raises:
        InputError: there are none, or only those of other kernels.
    """
    if is_build_tree(folder):
        return built_modules(folder)
    if (modules := find_modules(folder, release)) is not None:
        return modules
    if folder.name == release or (folder / "modules.order").is_file():
        return installed_modules(folder)
    others = sorted(path.name for base in BASES for path in (folder / base).glob("*"))
    what = f"those in it are for {', '.join(others)}" if others else "there are none in it"
    if not folder.is_dir():
        what = "no such folder"
    raise InputError(
        f"looking for modules of kernel {release} in {folder}: {what}",
        hint=f"in the kernel's tree: make modules_install INSTALL_MOD_PATH={folder}",
    )


def link_modules(files: Mapping[str, Path], folder: Path) -> None:
    """Make a `lib/modules/RELEASE` of links."""
    folder.mkdir(parents=True)
    for name, file in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(file)
