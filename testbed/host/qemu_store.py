"""The QEMU store: those that were fetched, one folder each below `qemu` in the cache, named by their suite.

lock                  held by whoever fetches or removes one
bookworm-backports/   what the packages hold (usr/…), and qemu.json: their versions
"""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from testbed.host.apt_sources import suite_name
from testbed.host.cache import cache_folder, cache_path
from testbed.host.file_lock import lock
from testbed.host.qemu_prefix import Prefix
from testbed.model.json_reader import parse_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_RECORD, _LOCK, _DRAFT = "qemu.json", "lock", "tmp-"


@dataclass(frozen=True, kw_only=True)
class FetchedQemu:
    """A QEMU of the store."""

    name: str  #: the suite it is from
    prefix: Prefix
    packages: Mapping[str, str]  #: name -> version


def fetched_qemus() -> dict[str, FetchedQemu]:
    """Return every whole QEMU of the store by its name, sorted."""
    folder = cache_path("qemu").absolute()
    read = (
        _read(path.parent) for path in sorted(folder.glob(f"*/{_RECORD}")) if not path.parent.name.startswith(_DRAFT)
    )
    return {each.name: each for each in read if each}


def find_fetched(name: str) -> FetchedQemu | None:
    """Return the QEMU fetched from a suite, whose name may hold `{codename}`; None if it was not."""
    return fetched_qemus().get(suite_name(name))


def remove_fetched(name: str, *, on_wait: Callable[[], None] = lambda: None) -> None:
    """Remove a QEMU from the store; one that runs is not disturbed."""
    with locked(on_wait=on_wait), draft() as scratch, contextlib.suppress(FileNotFoundError):
        (_folder() / name).rename(scratch / "old")


@contextlib.contextmanager
def locked(*, on_wait: Callable[[], None]) -> Iterator[None]:
    """Hold the store; the kernel lets go of it when the holder dies."""
    with (_folder() / _LOCK).open("w") as file:
        if not lock(file.fileno(), wait=False):
            on_wait()
            lock(file.fileno())
        for left in _folder().glob(f"{_DRAFT}*"):
            shutil.rmtree(left, ignore_errors=True)
        yield


@contextlib.contextmanager
def draft() -> Iterator[Path]:
    """Hold a temporary folder of the store, from which `keep` takes; the caller holds the lock."""
    folder = Path(tempfile.mkdtemp(prefix=_DRAFT, dir=_folder()))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def keep(prefix: Prefix, name: str, packages: Mapping[str, str]) -> FetchedQemu:
    """Move a prefix from a draft into its place, instead of the one of that name; the caller holds the lock."""
    (prefix.root / _RECORD).write_text(json.dumps({"name": name, "packages": dict(packages)}, indent=1) + "\n")
    place = _folder() / name
    with draft() as scratch:
        with contextlib.suppress(FileNotFoundError):
            place.rename(scratch / "old")
        prefix.root.rename(place)
    return FetchedQemu(name=name, prefix=Prefix(root=place), packages=packages)


def _folder() -> Path:
    return cache_folder("qemu").absolute()


def _read(folder: Path) -> FetchedQemu | None:
    try:
        record: dict[str, Any] = parse_json((folder / _RECORD).read_text(encoding="utf-8"))
        fetched = FetchedQemu(name=record["name"], prefix=Prefix(root=folder), packages=dict(record["packages"]))
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return fetched if fetched.name == folder.name and fetched.prefix.binary.is_file() else None
