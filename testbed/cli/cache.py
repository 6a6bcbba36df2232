"""`testbed cache`: the saved guests that make warm starts."""

from __future__ import annotations

import datetime
import json
import re
import tarfile
from pathlib import Path
from typing import Annotated

import typer

from testbed.cli.terminal import check_writable, out, plain, print_section, show_progress
from testbed.host.archive import unpack_file
from testbed.machine.snapshot_store import RECORD, Snapshot, SnapshotStore
from testbed.model.errors import InputError

cache_app = typer.Typer(
    help="Show, clear, export and import the saved guests.",
    no_args_is_help=True,
)

#: sha256
_KEY = re.compile(r"[0-9a-f]{64}")

FileName = Annotated[Path, typer.Argument(help="A tar file.")]


@cache_app.command(epilog="Example: testbed cache show --json")
def show(as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False) -> None:
    """Show the saved guests, most recently used first, and the space they take."""
    store = SnapshotStore()
    snapshots = store.all()[::-1]
    if as_json:
        values = [{"key": each.key, "bytes": each.size, "used": _used(each)} for each in snapshots]
        plain(json.dumps({"folder": str(store.folder), "limit_bytes": store.limit, "snapshots": values}, indent=1))
        return
    rows = [(each.key[:12], f"{each.size / 1e6:.0f} MB, used {_used(each)}") for each in snapshots]
    print_section("saved guests", rows or [("none", "the next run saves its guests")])
    total = sum(each.size for each in snapshots)
    out.print(f"{total / 1e6:.0f} MB of {store.limit / 1e6:.0f} in {store.folder}", highlight=False, soft_wrap=True)
    out.print("[dim]TESTBED_SNAPSHOTS_MIB sets the limit, TESTBED_CACHE the location[/dim]", highlight=False)


@cache_app.command()
def clear() -> None:
    """Remove every saved guest; later runs boot afresh."""
    store = SnapshotStore()
    snapshots = store.all()
    for each in snapshots:
        store.remove(each)
    out.print(f"{len(snapshots)} saved guests removed", highlight=False)


@cache_app.command(epilog="Example: testbed cache export guests.tar")
def export(file: FileName) -> None:
    """Pack every saved guest into a tar file, for another run of the same CI job on an identical machine."""
    check_writable(file)
    snapshots = SnapshotStore().all()
    with tarfile.open(file, "w") as archive:
        for each in snapshots:
            show_progress(f"packing {each.key[:12]}")
            archive.add(each.folder, each.key)
    out.print(f"{len(snapshots)} in {file}", highlight=False)


@cache_app.command(name="import", epilog="Example: testbed cache import guests.tar")
def import_(file: FileName) -> None:
    """Import saved guests from a tar file; damaged ones are refused."""
    store = SnapshotStore()
    taken = 0
    try:
        with tarfile.open(file) as archive:
            for key in [member.name for member in archive if member.isdir()]:
                taken += _take(archive, key, store)
    except OSError as error:
        raise InputError(f"cache import {file}: {error.strerror}") from None
    except tarfile.TarError:
        raise InputError(f"cache import {file}: not a tar file", hint="make one with: testbed cache export") from None
    if not taken:
        raise InputError(
            f"cache import {file}: contains no saved guests", hint="make one with: testbed cache export FILE"
        )
    out.print(f"{taken} imported from {file}", highlight=False)


def _take(archive: tarfile.TarFile, key: str, store: SnapshotStore) -> bool:
    """Put one saved guest into the store once it is known to be whole; its name becomes a folder's."""
    if not _KEY.fullmatch(key):
        raise InputError(f"cache import: {key!r} is not a saved guest", hint="make one with: testbed cache export")
    with store.draft() as draft:
        members = [member for member in archive if member.isreg() and Path(member.name).parent == Path(key)]
        for member in members:
            unpack_file(archive, member, draft / Path(member.name).name)
        try:
            record = Snapshot(key=key, folder=draft).check()
        except (OSError, ValueError, KeyError, AttributeError) as error:
            raise InputError(f"cache import: {key[:12]}: {error}") from None
        (draft / RECORD).unlink()
        store.keep(draft, key, {name: record[name] for name in ("hello", "level2") if name in record})
    return True


def _used(snapshot: Snapshot) -> str:
    stamp = (snapshot.folder / RECORD).stat().st_mtime
    return datetime.datetime.fromtimestamp(stamp).isoformat(" ", "seconds")
