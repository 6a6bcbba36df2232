"""Disk images for tests, made as an unprivileged user: partition tables byte by byte, file systems by mkfs."""

from __future__ import annotations

import binascii
import hashlib
import json
import os
import struct
import subprocess
from typing import TYPE_CHECKING, Any, Self, cast

import pytest

from testbed.host.packages import find_program
from testbed.host.qemu import find_qemu
from testbed.host.tools import run_tool
from tests.unit.kernel_files import write_files

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

SECTOR = 512
MIB = 1 << 20
#: where the first partition begins
FIRST = MIB
_LINUX_GUID = bytes.fromhex("af3dc60f838472478e793d69d8477de4")


def ext4(
    folder: Path,
    files: Mapping[str, bytes],
    *,
    name: str = "ext4",
    mib: int = 16,
    label: str = "",
    programs: Sequence[str] = (),
) -> Path:
    """Return an ext4 file system with these files; a name that ends with `@` is a link to its content."""
    tree, image = _planned(folder, files, name, mib, programs)
    _make("ext4", "e2fsprogs", "-d", tree, *(["-L", label] if label else []), image)
    return image


def xfs(folder: Path, files: Mapping[str, bytes], *, programs: Sequence[str] = ()) -> Path:
    """Return an xfs with these files, of the least size that mkfs.xfs makes."""
    tree, image = _planned(folder, files, "xfs", 320, programs)
    plan = folder / "xfs.plan"
    # mkfs.xfs(8): what once was the boot program, numbers that are not used, the root, its entries
    plan.write_text(f"-\n0 0\nd--755 0 0\n{''.join(_plan_lines(tree))}$\n$\n")
    _make("xfs", "xfsprogs", "-p", plan, image)
    return image


def btrfs(folder: Path, files: Mapping[str, bytes], *, programs: Sequence[str] = ()) -> Path:
    """Return a btrfs with these files."""
    tree, image = _planned(folder, files, "btrfs", 256, programs)
    _make("btrfs", "btrfs-progs", "--rootdir", tree, image)
    return image


def _make(kind: str, package: str, *options: str | Path) -> None:
    if find_program(f"mkfs.{kind}") is None:
        pytest.skip(f"this host has no mkfs.{kind}: install {package}")
    run_tool([f"mkfs.{kind}", "-q", *options], doing=f"making a file system of type {kind}")


def _planned(
    folder: Path, files: Mapping[str, bytes], name: str, mib: int, programs: Sequence[str]
) -> tuple[Path, Path]:
    """Return a tree with these files, and an empty image for it."""
    tree = folder / f"{name}.tree"
    write_files(tree, {path: content for path, content in files.items() if not path.endswith("@")})
    for path, target in files.items():
        if path.endswith("@"):
            link = tree / path.removesuffix("@")
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(target.decode())
    for path in programs:
        (tree / path).chmod(0o755)
    image = folder / f"{name}.fs"
    with image.open("wb") as file:
        file.truncate(mib * MIB)
    return tree, image


def _plan_lines(folder: Path) -> Iterator[str]:
    """Yield a line for each file of a tree, and lines around what is in its folders, as mkfs.xfs reads them."""
    for path in sorted(folder.iterdir()):
        mode = f"{path.lstat().st_mode & 0o777:03o} 0 0"
        if path.is_dir():
            yield f"{path.name} d--{mode}\n"
            yield from _plan_lines(path)
            yield "$\n"
        else:
            yield f"{path.name} ---{mode} {path}\n"


def swap(folder: Path, label: str) -> Path:
    """Return an empty swap area."""
    image = folder / "swap.fs"
    image.write_bytes(bytes(8 * MIB))
    run_tool(["mkswap", "-q", "-L", label, image], doing="making a swap area")
    return image


def mbr_disk(target: Path, systems: Sequence[Path]) -> Path:
    """Write a disk with an MBR and these file systems in primary partitions."""
    table, at = b"", FIRST
    for path in systems:
        size = path.stat().st_size
        table += struct.pack("<B3sB3sII", 0, b"\0" * 3, 0x83, b"\0" * 3, at // SECTOR, size // SECTOR)
        at += size
    _write(target, at + MIB, systems)
    with target.open("r+b") as file:
        file.seek(446)
        file.write(table.ljust(64, b"\0") + b"\x55\xaa")
    return target


def gpt_disk(target: Path, systems: Sequence[Path]) -> Path:
    """Write a disk with a GPT and these file systems in its partitions (UEFI 2.10, section 5)."""
    total = FIRST + sum(path.stat().st_size for path in systems) + MIB
    _write(target, total, systems)
    sectors, entries, at = total // SECTOR, b"", FIRST
    for number, path in enumerate(systems, 1):
        last = (at + path.stat().st_size) // SECTOR - 1
        entries += _LINUX_GUID + bytes([number] * 16) + struct.pack("<QQQ72x", at // SECTOR, last, 0)
        at += path.stat().st_size
    entries = entries.ljust(128 * 128, b"\0")
    with target.open("r+b") as file:
        file.seek(446)
        protective = struct.pack("<B3sB3sII", 0, b"\0\2\0", 0xEE, b"\xff" * 3, 1, min(sectors - 1, 0xFFFFFFFF))
        file.write(protective.ljust(64, b"\0") + b"\x55\xaa")
        for here, other, table in ((1, sectors - 1, 2), (sectors - 1, 1, sectors - 33)):
            file.seek(table * SECTOR)
            file.write(entries)
            file.seek(here * SECTOR)
            file.write(_gpt_header(here, other, table, sectors, entries))
    return target


def _gpt_header(here: int, other: int, table: int, sectors: int, entries: bytes) -> bytes:
    def header(crc: int) -> bytes:
        return struct.pack(
            "<8sIIII QQQQ 16s QIII",
            *(b"EFI PART", 0x10000, 92, crc, 0),
            *(here, other, 34, sectors - 34),
            bytes(range(16)),
            *(table, 128, 128, binascii.crc32(entries)),
        )

    return header(binascii.crc32(header(0)))


def _write(target: Path, size: int, systems: Sequence[Path]) -> None:
    with target.open("wb") as file:
        file.truncate(size)
        file.seek(FIRST)
        for path in systems:
            with path.open("rb") as source:
                while block := source.read(MIB):
                    # holes stay holes: a Debian of a gigabyte has half of it in use
                    if block.count(0) < len(block):
                        file.write(block)
                    else:
                        file.seek(len(block), os.SEEK_CUR)


def qcow2_header(
    *, size: int, backing: str = "", backing_format: str = "", data_file: str = "", crypt: int = 0
) -> bytes:
    """Return the first cluster of a qcow2 image without any data (docs/interop/qcow2.txt)."""
    extensions = b""
    for kind, text in ((0xE2792ACA, backing_format), (0x44415441, data_file)):
        if text:
            raw = text.encode()
            extensions += struct.pack(">II", kind, len(raw)) + raw.ljust((len(raw) + 7) // 8 * 8, b"\0")
    extensions += bytes(8)
    name_at = 104 + len(extensions)
    header = struct.pack(
        ">4sIQIIQIIQQIIQQQQII",
        *(b"QFI\xfb", 3, name_at if backing else 0, len(backing), 16, size, crypt),
        *(1, 0x30000, 0x10000, 1, 0, 0),
        *(4 if data_file else 0, 0, 0, 4, 104),
    )
    return (header + extensions + backing.encode()).ljust(0x10000, b"\0")


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Qmp:
    """A QEMU without a machine, asked line by line."""

    def __init__(self, *options: str) -> None:
        argv = [*find_qemu().command, "-M", "none", "-nodefaults", "-display", "none", "-qmp", "stdio", *options]
        self._process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.events: list[dict[str, Any]] = []
        self._read()
        self.execute("qmp_capabilities")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream
            stream.close()

    def execute(self, command: str, **arguments: Any) -> None:
        """Run a command that must succeed."""
        self.query(command, **arguments)

    def query(self, command: str, **arguments: Any) -> Any:
        """Run a command that must succeed, and return its answer."""
        assert self._process.stdin
        self._process.stdin.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self._process.stdin.flush()
        while "return" not in (answer := self._read()):
            assert "error" not in answer, answer
            self.events.append(answer)
        return answer["return"]

    def job(self, command: str, **arguments: Any) -> None:
        """Run a command that is a job to its end, which must be a good one."""
        self.execute(command, **{"job-id": "job"}, **arguments)
        while (event := self._read()).get("data", {}).get("status") not in ("concluded", "null"):
            assert not event.get("data", {}).get("error"), event

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout
        return cast("dict[str, Any]", json.loads(self._process.stdout.readline()))


def converted(source: Path, image_format: str) -> Path:
    """Return a raw disk as an image of another format, beside it."""
    target = source.with_suffix(f".{image_format}")
    target.touch()
    size = source.stat().st_size
    with Qmp() as qemu:
        qemu.execute("blockdev-add", **{"driver": "file", "node-name": "file", "filename": str(target)})
        qemu.job("blockdev-create", options={"driver": image_format, "file": "file", "size": size})
        qemu.execute("job-dismiss", id="job")
        qemu.execute("blockdev-add", **{"driver": image_format, "node-name": "target", "file": "file"})
        raw = {"driver": "raw", "node-name": "source", "file": {"driver": "file", "filename": str(source)}}
        qemu.execute("blockdev-add", **raw)
        qemu.job("blockdev-backup", device="source", target="target", sync="full")
        qemu.execute("quit")
    return target


EXTENT = 4 * MIB
_PV_ID = "L9Iw07-YRgj-FgcI-pl8X-tCzz-J2In-lopLc4"
#: as lvcreate of LVM2 2.03.16 leaves it, without what says when and where it was made
_GROUP = """\
vg-0 {{
id = "MoqKcR-0cfI-y4Yt-AQFC-I2WC-k0qj-Vy1JsW"
seqno = 3
format = "lvm2"
status = ["RESIZEABLE", "READ", "WRITE"]
flags = []
extent_size = 8192
max_lv = 0
max_pv = 0
metadata_copies = 0

physical_volumes {{

pv0 {{
id = "{id}"
device = "/dev/loop0"

status = ["ALLOCATABLE"]
flags = []
dev_size = 204800
pe_start = 2048
pe_count = {count}
}}
}}

logical_volumes {{
{volumes}
}}
}}
# Generated by LVM2 version 2.03.16(2) (2022-05-18)

contents = "Text Format Volume Group"
version = 1
"""


def physical_volume(folder: Path, systems: Mapping[str, Path]) -> Path:
    """Return an LVM physical volume of the group vg-0 with these file systems in logical volumes.

    Each has two segments, the second half of the file system first. One whose name ends with `@` is a mirror with one
    leg left. Beside them is `slim`, a volume of a thin pool.
    """
    data, volumes = b"", ""
    for name, path in systems.items():
        content = path.read_bytes()
        half = len(content) // EXTENT // 2
        first, count = len(data) // EXTENT, len(content) // EXTENT
        segments = [(0, half, first + count - half), (half, count - half, first)]
        data += content[half * EXTENT :] + content[: half * EXTENT]
        if name.endswith("@"):
            name = name.removesuffix("@")  # noqa: PLW2901 (it is a mark)
            legs = f'raids = [\n"{name}_rmeta_0", "{name}_rimage_0"\n]'
            volumes += _logical(
                name, f'segment1 {{\nstart_extent = 0\nextent_count = {count}\ntype = "raid1"\n{legs}\n}}\n'
            )
            volumes += _logical(f"{name}_rimage_0", _segments(segments), status='["READ", "WRITE"]')
        else:
            volumes += _logical(name, _segments(segments))
    volumes += _logical(
        "slim", 'segment1 {\nstart_extent = 0\nextent_count = 4\n\ntype = "thin"\nthin_pool = "pool"\n}\n'
    )
    text = _GROUP.format(id=_PV_ID, count=len(data) // EXTENT, volumes=volumes).encode()
    size = MIB - 4096
    label = b"LABELONE" + struct.pack("<QII", 1, 0, 32) + b"LVM2 001"
    areas = struct.pack("<Q QQQQ QQQQ", MIB + len(data), MIB, 0, 0, 0, 4096, size, 0, 0)
    header = bytes(4) + b" LVM2 x[5A%r0N*>" + struct.pack("<IQQ QQII", 1, 4096, size, 512, len(text), 0, 0)
    start = bytes(SECTOR) + label + _PV_ID.replace("-", "").encode() + areas
    image = folder / "lvm.pv"
    image.write_bytes((start.ljust(4096, b"\0") + header.ljust(512, b"\0") + text).ljust(MIB, b"\0") + data)
    return image


def _logical(name: str, segments: str, *, status: str = '["READ", "WRITE", "VISIBLE"]') -> str:
    identity = hashlib.sha256(name.encode()).hexdigest()[:32]
    head = f'id = "{identity}"\nstatus = {status}\nflags = []\nsegment_count = {segments.count("{")}\n\n'
    return f"{name} {{\n{head}{segments}}}\n"


def _segments(segments: Sequence[tuple[int, int, int]]) -> str:
    return "".join(
        f'segment{number} {{\nstart_extent = {at}\nextent_count = {count}\n\ntype = "striped"\nstripe_count = 1\n\n'
        f'stripes = [\n"pv0", {where}\n]\n}}\n'
        for number, (at, count, where) in enumerate(segments, 1)
    )


_ARRAY_DATA = 2048  #: sectors before a member's data


def array_members(folder: Path, system: Path, *, level: int, chunk: int = 64 * 1024) -> list[Path]:
    """Return the two members of an md array that holds a file system: a mirror (level 1), or stripes (level 0)."""
    content = system.read_bytes()
    if level == 1:
        parts = [content, content]
    else:
        pieces = [content[at : at + chunk] for at in range(0, len(content), chunk)]
        parts = [b"".join(pieces[number::2]) for number in (0, 1)]
    members = []
    for number, data in enumerate(parts):
        head = bytearray(_ARRAY_DATA * SECTOR)
        head[4096 : 4096 + 512] = _superblock(system.stem, level, number, len(data) // SECTOR, chunk // SECTOR)
        members.append(folder / f"{system.stem}.{number}.md")
        members[-1].write_bytes(bytes(head) + data)
    return members


def _superblock(name: str, level: int, number: int, sectors: int, chunk: int) -> bytes:
    """Return the 512 bytes of a superblock 1.2 (include/uapi/linux/raid/md_p.h, struct mdp_superblock_1)."""
    identity = hashlib.sha256(name.encode()).digest()[:16]
    roles = struct.pack("<2H", 0, 1).ljust(256, b"\xff")
    # stripes: the layout that came with Linux 3.14, in which no member is larger than another
    layout = 2 if level == 0 else 0

    def packed(checksum: int) -> bytes:
        array = struct.pack(
            "<IIII16s32sQiIQIIi",
            *(0xA92B4EFC, 1, 0, 0, identity, name.encode(), 0),
            *(level, layout, 0 if level == 0 else sectors, chunk if level == 0 else 0, 2, 0),
        )
        reshape = struct.pack("<IQIIII", 0, 0, 0, 0, 0, 0)
        device = struct.pack(
            "<QQQQII16sBBHI", _ARRAY_DATA, sectors, 8, 0, number, 0, bytes([number + 1] * 16), 0, 0, 0, 0
        )
        state = struct.pack("<QQQII32x", 0, 1, (1 << 64) - 1, checksum, len(roles) // 2)
        return array + reshape + device + state + roles

    words = struct.unpack(f"<{len(packed(0)) // 4}I", packed(0))
    total = sum(words)
    return packed(((total & 0xFFFFFFFF) + (total >> 32)) & 0xFFFFFFFF)
