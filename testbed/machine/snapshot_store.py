"""The snapshot store: saved machine states below the cache folder, addressed by everything they depend on.

    KEY.lock      held by whoever boots the machine to save it, or removes it
    KEY/          state, snapshot.json, kernel.records, console.log

KEY is a sha256 over the argument vector and the content of every file QEMU reads. A snapshot is written beside its
place and renamed into it; its content is checked before it is used; the least recently used go when the store is full.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
import zlib
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from testbed.host.cache import cache_folder
from testbed.host.cpu import cpu_identity
from testbed.host.draft import DRAFT, held, sweep_drafts
from testbed.host.file_lock import lock
from testbed.machine.snapshot import keeps_state
from testbed.model.json_reader import parse_json, sealed, unsealed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

    from testbed.host.accel import Accel
    from testbed.host.qemu import Qemu
    from testbed.model.spec import MachineSpec

#: changes when what is saved beside the state changes
FORMAT = 3
STATE, RECORD, KERNEL_RECORDS, CONSOLE = "state", "snapshot.json", "kernel.records", "console.log"
_RETRY_SECONDS = 0.05
FIRMWARE_SUFFIXES = (".bin", ".rom")
_MIB = 1 << 20
#: what is summed at a time
_BLOCK = 1 << 18
_ZEROS = bytes(_BLOCK)


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A saved state, checked or not."""

    key: str
    folder: Path

    @property
    def state(self) -> Path:
        """Return the file QEMU loads."""
        return self.folder / STATE

    @property
    def record(self) -> dict[str, Any]:
        """Return what was noted when it was saved; raise ValueError or OSError if that is damaged."""
        try:
            record = unsealed(parse_json((self.folder / RECORD).read_bytes()))
        except ValueError as error:
            raise ValueError(f"snapshot {self.key[:12]}: {RECORD}: {error}") from None
        if record.get("format") != FORMAT:
            raise ValueError(f"snapshot {self.key[:12]}: has another format")
        return record

    @property
    def size(self) -> int:
        """Return how many bytes it takes on the disk; none if it is removed meanwhile."""
        with contextlib.suppress(FileNotFoundError):
            return sum(path.stat().st_blocks * 512 for path in self.folder.iterdir())
        return 0

    @contextlib.contextmanager
    def pinned(self) -> Iterator[Snapshot]:
        """Yield the snapshot that is there now, also while another process puts a new one in its place.

        None is removed meanwhile to make room. Raises OSError if there is no snapshot.
        """
        descriptor = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            # refused while whoever has just made it still holds it: then it is safe all the same
            lock(descriptor, wait=False, shared=True)
            yield Snapshot(key=self.key, folder=Path(f"/proc/self/fd/{descriptor}"))
        finally:
            os.close(descriptor)

    @property
    def in_use(self) -> bool:
        """Return whether somebody has it pinned, or has not finished making it."""
        with contextlib.suppress(FileNotFoundError):
            descriptor = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                return not lock(descriptor, wait=False)
            finally:
                os.close(descriptor)
        return False

    def check(self) -> dict[str, Any]:
        """Return the record; raise ValueError or OSError if a file is not what was saved."""
        record = self.record
        for name, wanted in record["checksums"].items():
            if checksum(self.folder / name) != wanted:
                raise ValueError(f"snapshot {self.key[:12]}: {name} is damaged")
        return record


def snapshot_key(
    argv: Sequence[str], *, spec: MachineSpec, qemu: Qemu, accel: Accel, state: Sequence[str]
) -> str | None:
    """Return the key of a machine's state after its boot, or None if that state cannot be kept.

    `argv` is QEMU's, with names in place of what differs from run to run (sockets, the rundir); fresh disks are empty,
    so their sizes say all. `state` names what was booted and what was done in the guest until it was saved.
    """
    if not keeps_state(spec) or any(disk.path for disk in spec.disks):
        return None
    # TCG's CPU is the same everywhere
    host = cpu_identity() if accel.name == "kvm" else []
    parts = [
        FORMAT,
        list(argv),
        [disk.size_mib for disk in spec.disks],
        list(state),
        program_hashes(qemu.path, qemu.command),
        host,
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


class SnapshotStore:
    """The snapshots of one folder: the one given, `$TESTBED_SNAPSHOTS`, else one in the cache."""

    def __init__(self, folder: Path | None = None) -> None:
        named = os.environ.get("TESTBED_SNAPSHOTS")
        self.folder = folder or (Path(named) if named else cache_folder("snapshots"))
        self.folder.mkdir(parents=True, exist_ok=True)
        self.limit = int(os.environ.get("TESTBED_SNAPSHOTS_MIB", "4096")) * _MIB

    def find(self, key: str) -> Snapshot | None:
        """Return the snapshot of this key, and note that it is used."""
        snapshot = Snapshot(key=key, folder=self.folder / key)
        with contextlib.suppress(FileNotFoundError):
            os.utime(snapshot.folder / RECORD)
            return snapshot
        return None

    def all(self) -> list[Snapshot]:
        """Return every snapshot, the least recently used first."""
        records = [path for path in self.folder.glob(f"*/{RECORD}") if not path.parent.name.startswith(DRAFT)]
        used = {}
        for path in records:
            with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                used[path] = path.stat().st_mtime
        return [Snapshot(key=path.parent.name, folder=path.parent) for path in sorted(used, key=used.__getitem__)]

    @contextlib.contextmanager
    def draft(self) -> Iterator[Path]:
        """Yield a folder in which to put a new snapshot's files; it goes unless `keep` takes it.

        Those that killed processes left go too.
        """
        sweep_drafts(self.folder)
        folder = Path(tempfile.mkdtemp(prefix=DRAFT, dir=self.folder))
        try:
            with held(folder):
                yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def keep(self, draft: Path, key: str, record: dict[str, Any]) -> Snapshot:
        """Seal a draft, put it in its place and make room for it."""
        sums = {path.name: checksum(path) for path in draft.iterdir()}
        (draft / RECORD).write_text(json.dumps(sealed({"format": FORMAT, "checksums": sums, **record})))
        place = self.folder / key
        self.remove(Snapshot(key=key, folder=place))
        draft.rename(place)
        self._make_room(keep=key)
        return Snapshot(key=key, folder=place)

    def remove(self, snapshot: Snapshot) -> None:
        """Remove a snapshot; whoever loads it keeps the open file."""
        if snapshot.folder.exists():
            gone = Path(tempfile.mkdtemp(prefix=DRAFT, dir=self.folder))
            with contextlib.suppress(OSError):
                snapshot.folder.rename(gone / "old")
            shutil.rmtree(gone, ignore_errors=True)

    @contextlib.asynccontextmanager
    async def locked(self, key: str) -> AsyncIterator[Callable[[], None]]:
        """Hold a key, so that one machine boots for all that wait for its snapshot; yield what lets it go early."""
        descriptor = os.open(self.folder / f"{key}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            # another process may hold it: there is nothing to be woken by
            while not lock(descriptor, wait=False):  # noqa: ASYNC110
                await asyncio.sleep(_RETRY_SECONDS)
            yield partial(fcntl.flock, descriptor, fcntl.LOCK_UN)
        finally:
            os.close(descriptor)

    def _make_room(self, *, keep: str) -> None:
        snapshots = self.all()
        total = sum(snapshot.size for snapshot in snapshots)
        for snapshot in snapshots:
            if total <= self.limit or snapshot.key == keep or snapshot.in_use:
                continue
            total -= snapshot.size
            self.remove(snapshot)


def checksum(path: Path) -> list[int]:
    """Return size and CRC-32: proof against damage, not against an attacker, who could write the record too.

    Blocks of zeros do not count, and holes are not read: mapped-ram files are mostly holes, which a copy may fill.
    """
    crc, size = 0, path.stat().st_size
    with path.open("rb") as file:
        for start in _data_blocks(file.fileno(), size):
            block = os.pread(file.fileno(), _BLOCK, start)
            if block != _ZEROS[: len(block)]:
                crc = zlib.crc32(block, zlib.crc32(start.to_bytes(8, "little"), crc))
    return [size, crc]


def _data_blocks(descriptor: int, size: int) -> Iterator[int]:
    """Yield where each block begins that is not all hole."""
    block = 0
    while block < size:
        try:
            data = os.lseek(descriptor, block, os.SEEK_DATA)
        except OSError:  # ENXIO: nothing but a hole up to the end
            return
        hole = os.lseek(descriptor, data, os.SEEK_HOLE)
        block = max(block, data - data % _BLOCK)
        while block < hole:
            yield block
            block += _BLOCK


@lru_cache
def program_hashes(path: Path, command: tuple[str, ...]) -> list[str]:
    """Return a hash of the QEMU binary and of each firmware and ROM file it could load."""
    listed = subprocess.run([*command, "-L", "help"], capture_output=True, text=True, check=False).stdout.split()
    firmware = [
        file
        for folder in sorted(set(listed))
        for file in sorted(Path(folder).glob("*"))
        if file.suffix in FIRMWARE_SUFFIXES and file.is_file()
    ]
    return [f"{file}: {hashlib.sha256(file.read_bytes()).hexdigest()}" for file in (path.resolve(), *firmware)]
