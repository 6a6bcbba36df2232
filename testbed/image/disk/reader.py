"""The guest that reads a disk image's file systems: started contained, run to its end, thrown away.

No file system of a disk image is parsed on the host, be it by its kernel or as root. The guest has the disk under an
overlay in a private folder, so that a journal can be replayed though the image is open for reading alone, and writes
what it read to a second disk of a fixed size.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from testbed.host.accel import choose_accel
from testbed.host.claim import scratch_folder
from testbed.host.compiler import STATIC, compile_c
from testbed.host.containment import SANDBOX, admit
from testbed.host.family import run_family
from testbed.host.host import contained_child
from testbed.host.qemu import find_qemu
from testbed.image.cpio import pack, regular
from testbed.image.disk.records import DamagedError, DiskRecords, last_volume, parse_records
from testbed.model.catalog import shipped_folder
from testbed.model.errors import BedError, InputError
from testbed.model.printable import harmless

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from testbed.host.accel import Accel
    from testbed.host.qemu import Qemu
    from testbed.image.disk.opened import OpenDisk
    from testbed.image.store import Image

SOURCES = ("read-disk.c", "device.c", "identify.c", "array.c", "volume-group.c")
HEADERS = ("device.h",)
RECIPE = "disk-reader"
#: sparse: what the guest may hand over at most
#: bytes of one file: a kernel or a module
MAX_FILE = 1 << 29
_OUTPUT_BYTES = 2 << 30
_MEMORY_MIB = 768
#: a fair disk takes seconds; what takes longer has a file system that leads the kernel astray
LIMIT_SECONDS = 600
_SAID = "read-disk: "
_CONSOLE, _OUTPUT = "console.log", "output.raw"
_TAIL = 1 << 14


@dataclass(frozen=True, kw_only=True)
class Want:
    """What is wanted of a disk: the files that match, one file, or all below a folder."""

    kind: str  #: `glob`, `path` or `tree`
    pattern: str  #: without a leading slash
    limit: int = 1 << 20  #: bytes of each file
    volume: str = "*"  #: the name of a volume, or all of them

    def line(self) -> str:
        """Return the line of the request; raise ValueError for a name that does not fit into one."""
        words = (self.volume, self.pattern)
        if any(not word or not word.isprintable() for word in words) or " " in self.volume:
            raise ValueError(f"{words} cannot be requested")
        return f"{self.volume} {self.kind} {self.limit} {self.pattern}\n"


def reader_digest() -> str:
    """Return the sha256 of what the guest's program is made of."""
    digest = hashlib.sha256()
    for name in (*SOURCES, *HEADERS):
        digest.update((shipped_folder("guest-images") / name).read_bytes())
    return digest.hexdigest()


def read_disk(disk: OpenDisk, wants: Sequence[Want], image: Image) -> DiskRecords:
    """Boot the guest, which is of `image`, and return what it has read.

    Raises:
        InputError: the image is in use, damaged, or its file systems end the guest.
        BedError: QEMU cannot be started.
    """
    qemu = find_qemu()
    accel = choose_accel("auto", qemu)
    with scratch_folder("disk") as folder:
        _fill(folder, wants, image)
        argv = _argv(qemu, accel, disk, image, folder)
        command, _ = contained_child(argv, folders=[folder])
        status, words = _run(command, disk, folder)
        return _records(folder, disk, status, words)


def _fill(folder: Path, wants: Sequence[Want], image: Image) -> None:
    """Put the initramfs and the disk for what is read into the private folder."""
    _compile(folder / "read-disk")
    files = {
        "read-disk": regular((folder / "read-disk").read_bytes(), 0o755),
        "request": regular("".join(want.line() for want in wants).encode()),
    }
    # archives follow one another: the image's own, and what is added for this disk
    (folder / "initramfs").write_bytes(image.initramfs.read_bytes() + pack(files))
    with (folder / _OUTPUT).open("wb") as file:
        file.truncate(_OUTPUT_BYTES)
    admit(folder / _OUTPUT)
    admit(folder)


def _compile(target: Path) -> None:
    sources = [shipped_folder("guest-images") / name for name in SOURCES]
    compile_c(sources, target, flags=STATIC, doing=f"compiling {SOURCES[0]} for the guest")


def _argv(qemu: Qemu, accel: Accel, disk: OpenDisk, image: Image, folder: Path) -> list[str]:
    output = {
        "driver": "raw",
        "node-name": "output",
        "cache": {"no-flush": True},
        "file": {"driver": "file", "filename": str(folder / _OUTPUT)},
    }
    # QEMU makes the overlay in TMPDIR, and unlinks it at once
    overlaid = f"if=none,id=disk,snapshot=on,file=json:{json.dumps(disk.node()).replace(',', ',,')}"
    return [
        *qemu.command,
        *("-name", "testbed-disk"),
        *("-nodefaults", "-no-user-config"),
        *("-display", "none"),
        *(("-sandbox", SANDBOX) if qemu.sandbox else ()),
        *("-machine", "q35"),
        *("-accel", accel.name),
        *("-cpu", accel.cpu("auto")),
        *("-m", str(_MEMORY_MIB)),
        "-no-reboot",
        *("-chardev", f"file,id=console,path={str(folder / _CONSOLE).replace(',', ',,')}"),
        *("-serial", "chardev:console"),
        *("-kernel", str(image.kernel_file), "-initrd", str(folder / "initramfs")),
        *("-append", "console=ttyS0 quiet panic=-1 rdinit=/read-disk"),
        *disk.arguments(),
        *("-drive", overlaid),
        *("-blockdev", json.dumps(output)),
        *("-device", "virtio-blk-pci,drive=disk"),
        *("-device", "virtio-blk-pci,drive=output"),
    ]


def _run(command: Sequence[str], disk: OpenDisk, folder: Path) -> tuple[int | None, str]:
    """Run QEMU to its end; return its status, None if it took too long, and its words."""
    try:
        done = run_family(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={"TMPDIR": str(folder)},
            pass_fds=[file.fileno() for file in disk.files],
            timeout=LIMIT_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return None, ""
    return done.returncode, done.stderr.decode(errors="replace").strip()


def _records(folder: Path, disk: OpenDisk, status: int | None, words: str) -> DiskRecords:
    """Return what was read; raise the error of a run that did not come to its end."""
    source = disk.paths[0]
    with (folder / _OUTPUT).open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            return parse_records(data)
        except DamagedError as damage:
            volume = last_volume(data)
            why = f"{damage}"
    said = _said(folder / _CONSOLE)
    if status != 0 and status is not None:
        raise _refused(source, status, words)
    where = f"reading volume {harmless(volume)} of {source}" if volume else f"reading disk image {source}"
    if status is None:
        raise InputError(f"{where}: the guest reading it did not finish within {LIMIT_SECONDS} s", hint=_DAMAGED)
    raise InputError(f"{where}: the guest reading it ended early ({why}): {harmless(said) or words}", hint=_DAMAGED)


_DAMAGED = "the image may be damaged: check a copy of it (qemu-img check, fsck)"


def _refused(source: Path, status: int, words: str) -> BedError:
    """Return the error of a QEMU that did not run the guest."""
    if "lock" in words:
        hint = "stop what uses it (fuser -v FILE names it), or pass a copy or a snapshot"
        return InputError(f"disk image {source}: another process has it open for writing", hint=hint)
    if "fdset" in words or "disk" in words or "Image" in words or "image" in words:
        return InputError(f"disk image {source}: QEMU cannot open it: {_last(words)}", hint=_DAMAGED)
    return BedError(f"reading disk image {source}: QEMU ended with {status}: {_last(words) or 'it printed nothing'}")


def _last(words: str) -> str:
    return harmless(words.splitlines()[-1]) if words else ""


def _said(console: Path) -> str:
    """Return what the guest's program complained, or else the last line of its console."""
    try:
        with console.open("rb") as file:
            file.seek(max(0, console.stat().st_size - _TAIL))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    own = [line.removeprefix(_SAID) for line in lines if line.startswith(_SAID)]
    return (own or lines or [""])[-1]
