"""The modules of a kernel in a disk image: which are taken, and where they are put.

What a disk calls its files is anybody's choice; what becomes a path of this host is checked here.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from testbed.image.disk.reader import MAX_FILE, Want
from testbed.image.modules import TABLES, find_closure, read_index
from testbed.model.errors import InputError
from testbed.model.printable import harmless

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from testbed.image.disk.records import Volume

_NAME = re.compile(r"[A-Za-z0-9._+-]{1,255}(/[A-Za-z0-9._+-]{1,255}){0,15}")


def module_place(path: str, base: str) -> PurePosixPath | None:
    """Return the place of a module or of a table below a folder of modules; None for anything else.

    A name that a module of the kernel's cannot have is left out.
    """
    if not path.startswith(f"{base}/"):
        return None
    name = path.removeprefix(f"{base}/")
    if not _NAME.fullmatch(name) or any(part in (".", "..") for part in name.split("/")):
        return None
    return PurePosixPath(name) if ".ko" in name or name.startswith("modules.") else None


def write_tables(volume: Volume, base: str, target: Path) -> None:
    """Write depmod's tables into a folder of ours, those that were read whole."""
    for name in TABLES:
        file = volume.files.get(f"{base}/{name}")
        if file and not file.error and len(file.content) == file.size:
            (target / name).write_bytes(file.content)


def module_wants(volume: str, base: str, target: Path, wanted: Sequence[str]) -> list[Want]:
    """Return what to ask the disk for: the modules wanted with all they need, or every one if it has no tables.

    Raises InputError for tables that name what cannot be a module.
    """
    if not (target / "modules.dep").exists():
        return [Want(kind="tree", pattern=base, volume=volume, limit=MAX_FILE)]
    index = read_index(target)
    for path in index.files.values():
        if module_place(f"{base}/{path}", base) is None:
            raise InputError(
                f"disk image: {volume}:/{base}/modules.dep names {harmless(path)!r}, which is not a module"
            )
    files = [f"{base}/{index.files[name]}" for name in find_closure(index, wanted).names]
    return [Want(kind="path", pattern=path, volume=volume, limit=MAX_FILE) for path in files]


def write_modules(volume: Volume, base: str, target: Path) -> None:
    """Write modules below a folder of ours; raise InputError for one that could not be read."""
    for path, file in volume.files.items():
        if (name := module_place(path, base)) is None or name.name in TABLES:
            continue
        if file.error:
            raise InputError(f"disk image: reading {harmless(f'{volume.name}:/{path}')}: {file.error}")
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_bytes(file.content)
