"""Doctor: whether this host can run the test bed, each missing or half-working thing with what fixes it."""

from __future__ import annotations

import enum
import os
import platform
import resource
import shutil
import sys
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from testbed.campaign.case import obstacles
from testbed.host.cache import cache_folder
from testbed.host.firmware import find_ovmf
from testbed.host.kvm import prove_kvm
from testbed.host.leftovers import orphans, stale_temp_folders, temp_places
from testbed.host.memory import OVERHEAD, available_mib, guests_that_fit
from testbed.host.packages import install_line, missing
from testbed.host.qemu import find_qemu
from testbed.host.slots import core_count
from testbed.host.tools import run_tool
from testbed.image.store import find_image
from testbed.model.catalog import CASES, RECIPES
from testbed.model.errors import BedError, LackingError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from testbed.host.qemu import Qemu

_OLDEST_PYTHON = (3, 11)
_DISK_BYTES = 10**9
#: what a guest has if nothing else is said
_GUEST_MIB = 512
_OPEN_FILES = 256
#: a Unix socket's path holds 107 bytes; the longest name below a temporary folder is `testbed-xxxxxxxx/999.console`
_SOCKET_PATH, _SOCKET_NAME = 107, 29


class State(enum.StrEnum):
    """How a thing is."""

    OK = "ok"
    NOTE = "note"  #: works, and could be better
    BAD = "bad"  #: the test bed, or a shipped case, cannot run


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that was looked at."""

    name: str
    state: State
    message: str
    mend: str = ""  #: a command to paste where there is one


def examine(qemu: str = "") -> list[Check]:
    """Look at everything the test bed needs of this host; `qemu` is the binary asked for."""
    looks: dict[str, Callable[[], Sequence[Check]]] = {
        "python": _python,
        "programs": _programs,
        "child processes": _children,
        "qemu": partial(_qemu, qemu),
        "firmware": _firmware,
        "images": _images,
        "cache": _cache,
        "temporary folder": _temporary,
        "disk space": _disk,
        "open files": _open_files,
        "memory": _memory,
        "guests": _guests,
        "leftovers": _leftovers,
    }
    return [check for name, look in looks.items() for check in _looked(name, look)]


def is_ready(checks: Sequence[Check]) -> bool:
    """Tell whether nothing is bad."""
    return all(check.state is not State.BAD for check in checks)


def _looked(name: str, look: Callable[[], Sequence[Check]]) -> Sequence[Check]:
    """Return what a look found; one that fails names what it stumbled over."""
    try:
        return look()
    except BedError as error:
        return [_bad(name, error.message, error.hint or "")]
    except OSError as error:
        return [_bad(name, str(error))]


def _ok(name: str, message: str) -> Check:
    return Check(name=name, state=State.OK, message=message)


def _note(name: str, message: str, mend: str = "") -> Check:
    return Check(name=name, state=State.NOTE, message=message, mend=mend)


def _bad(name: str, message: str, mend: str = "") -> Check:
    return Check(name=name, state=State.BAD, message=message, mend=mend)


def _python() -> list[Check]:
    if sys.version_info < _OLDEST_PYTHON:
        return [_bad("python", f"{platform.python_version()}; 3.11 or newer is needed", "make setup PYTHON=python3.11")]
    return [_ok("python", platform.python_version())]


def _programs() -> list[Check]:
    needs = missing()
    if not needs:
        return [_ok("programs", "all there")]
    return [_bad("programs", f"{need.name} is missing: {need.why}", install_line([need])) for need in needs]


def _children() -> list[Check]:
    run_tool(["setpriv", "--pdeathsig", "KILL", "--", "true"], doing="setting a parent-death signal")
    return [_ok("child processes", "die with the test bed")]


def _qemu(name: str) -> list[Check]:
    """Check QEMU, and only if there is one what asks it: without it, one line says more than many."""
    qemu = find_qemu(name)
    checks = [_ok("qemu", f"{qemu.path} {qemu.version}")]
    if not qemu.sandbox:
        unboxed = "is built without seccomp: guests run without a sandbox"
        checks.append(_note("qemu", unboxed, "use another with --qemu"))
    cases = [check for case in CASES.names() for check in _looked("cases", partial(_case, case, name))]
    return [*checks, *cases, *_looked("kvm", partial(_kvm, qemu))]


def _case(case: str, qemu: str) -> list[Check]:
    """Check that QEMU has the machine types, devices and properties of a case's machines."""
    checks = [_obstacle(case, error) for error in obstacles(case, qemu)]
    return checks or [_ok("cases", f"{case}: QEMU has what its cells need")]


def _obstacle(name: str, error: BedError) -> Check:
    if isinstance(error, LackingError):
        return _note("cases", f"{name}: cells will be skipped: {error.message}", error.remedy)
    return _bad("cases", f"{name}: {error.message}", error.hint or "")


def _kvm(qemu: Qemu) -> list[Check]:
    proof = prove_kvm(qemu, retry=True)
    if proof.works:
        return [_ok("kvm", proof.why)]
    return [_note("kvm", f"{proof.why}; guests run under TCG, which is slower", proof.hint)]


def _firmware() -> list[Check]:
    try:
        found = find_ovmf("q35")
    except LackingError as error:
        return [_note("firmware", "no OVMF: machines with firmware=ovmf are skipped", error.remedy)]
    return [_ok("firmware", f"OVMF: {found.code}")]


def _images() -> list[Check]:
    return [check for name in RECIPES.names() for check in _looked("images", partial(_image, name))]


def _image(name: str) -> list[Check]:
    image = find_image(name)
    if image:
        return [_ok("images", f"{name}: {image.package}")]
    return [_note("images", f"{name}: not built yet", f"testbed image build {name}")]


def _cache() -> list[Check]:
    try:
        folder = cache_folder("images")
        _try_writing(folder)
    except OSError as error:
        return [_bad("cache", f"cannot be written: {error}", "export XDG_CACHE_HOME=A_FOLDER_OF_YOURS")]
    return [_ok("cache", f"{folder.parent} can be written")]


def _temporary() -> list[Check]:
    folder = temp_places()[0]
    if len(os.fsencode(folder)) + _SOCKET_NAME > _SOCKET_PATH:
        return [_bad("temporary folder", f"{folder} is too long for a Unix socket's path", "export TMPDIR=/tmp")]
    try:
        _try_writing(folder)
    except OSError as error:
        return [_bad("temporary folder", f"cannot be written: {error}", "export TMPDIR=A_FOLDER_OF_YOURS")]
    return [_ok("temporary folder", f"{folder} can be written")]


def _try_writing(folder: Path) -> None:
    """Write a byte: rights alone say nothing of a full or read-only file system."""
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(b"\0")


def _disk() -> list[Check]:
    return [_space(folder) for folder in (cache_folder("images"), Path(tempfile.gettempdir()))]


def _space(folder: Path) -> Check:
    free = shutil.disk_usage(folder).free
    message = f"{free / 1e9:.1f} GB free in {folder}"
    if free >= _DISK_BYTES:
        return _ok("disk space", message)
    return _bad("disk space", f"{message}; needed: {_DISK_BYTES / 1e9:.0f} GB", "testbed clean --images --runs")


def _open_files() -> list[Check]:
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY or limit >= _OPEN_FILES:
        return [_ok("open files", "no limit" if limit == resource.RLIM_INFINITY else f"{limit} per process")]
    return [_bad("open files", f"{limit} per process; needed: {_OPEN_FILES}", f"ulimit -n {_OPEN_FILES}")]


def _memory() -> list[Check]:
    available = available_mib()
    message = f"{available} MiB available"
    if available < _GUEST_MIB + OVERHEAD:
        return [_bad("memory", f"{message}, a guest takes {_GUEST_MIB + OVERHEAD}", "give guests less: -p memory=256")]
    return [_ok("memory", message)]


def _guests() -> list[Check]:
    return [guests_at_once(core_count(), guests_that_fit(_GUEST_MIB))]


def guests_at_once(cores: int, fit: int) -> Check:
    """Say how many guests run at once, and what limits that: cores, or memory for as many as `fit`."""
    message = f"{min(cores, fit)} at once: {cores} cores, memory for {fit}"
    if fit < cores:
        return _note("guests", message, "free memory, or give guests less: -p memory=256")
    return _ok("guests", message)


def _leftovers() -> list[Check]:
    checks = [
        _bad("leftovers", f"QEMU {pid} is still running without its test bed", f"kill -KILL {pid}")
        for pid in sorted(orphans())
    ]
    stale = stale_temp_folders()
    if stale:
        checks.append(_note("leftovers", f"{len(stale)} temporary folders of ended test beds", "testbed clean"))
    return checks or [_ok("leftovers", "none")]
