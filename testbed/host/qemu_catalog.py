"""The QEMUs of this host: the default one, others on PATH, fetched ones, and those TESTBED_QEMU_PATH names."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from testbed.host.apt_sources import suite_name
from testbed.host.packages import NEEDS, RHEL_QEMU, install_line
from testbed.host.qemu_prefix import PROGRAM
from testbed.host.qemu_store import fetched_qemus, find_fetched
from testbed.model.errors import InputError, LackingError

#: in place of a name: the first that has what the machine needs
ANY = "any"


def default_path() -> Path | None:
    """Return the QEMU that is taken if none is asked for, or None: `$TESTBED_QEMU`, that on PATH, or that of RHEL."""
    return _find(_default_name())


def known_qemus() -> dict[str, Path]:
    """Return every QEMU by what it is called in `--qemu` and `qemu:`, the default first, each binary once."""
    fetched = {each.prefix.binary: name for name, each in fetched_qemus().items()}
    default = default_path()
    once: dict[Path, Path] = {}
    for path in (*([default] if default else ()), *_on_path(), *fetched, *_named()):
        once.setdefault(path.resolve(), path)
    return {fetched.get(path, str(path)): path for path in once.values()}


def locate(name: str) -> Path:
    """Return the binary of a QEMU by its path, program or fetched name; nothing is the default.

    Raises:
        LackingError: this host has none of that name.
        InputError: there is no default.
    """
    if name == ANY and (known := known_qemus()):
        return next(iter(known.values()))
    if name in ("", ANY):
        return _default()
    if found := _find(name):
        return found
    there = ", ".join(known_qemus()) or "none"
    remedy = "pass a path with --qemu" if "/" in name else f"testbed qemu fetch {suite_name(name)}"
    raise LackingError(
        f"QEMU {name!r}: no such program, and none of that name was fetched; there are: {there}",
        hint=remedy if "/" in name else f"{remedy}; or pass a path with --qemu",
        remedy=remedy,
        lacking=name,
    )


def _default_name() -> str:
    """Return a path, a program, or the name of a fetched one."""
    return os.environ.get("TESTBED_QEMU") or PROGRAM


def _default() -> Path:
    if found := default_path():
        return found
    name = _default_name()
    line = install_line([need for need in NEEDS if need.name == PROGRAM])
    raise InputError(
        f"QEMU {name!r}: no such program",
        hint=f"install it: {line}; or without root: testbed qemu fetch, then pass its name with --qemu",
    )


def _find(name: str) -> Path | None:
    if "/" not in name and (fetched := find_fetched(name)):
        return fetched.prefix.binary
    if found := shutil.which(name):
        return Path(found)
    return RHEL_QEMU if name == PROGRAM and RHEL_QEMU.exists() else None


def _on_path() -> list[Path]:
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    return [Path(found) for folder in folders if folder and (found := shutil.which(PROGRAM, path=folder))]


def _named() -> list[Path]:
    """Return what TESTBED_QEMU_PATH names: binaries, and folders that hold one."""
    named = [Path(entry) for entry in os.environ.get("TESTBED_QEMU_PATH", "").split(os.pathsep) if entry]
    for path in named:
        if not path.exists():
            raise InputError(f"TESTBED_QEMU_PATH: {path}: no such file or folder")
    return [path / PROGRAM if path.is_dir() else path for path in named]
