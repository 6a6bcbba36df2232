"""Small kernels and kernel packages for tests, written byte by byte."""

from __future__ import annotations

import gzip
import io
import lzma
import struct
import tarfile
from typing import TYPE_CHECKING

from testbed.host.tools import run_tool
from testbed.image.cpio import pack, regular
from tests.unit.test_kernel import PHYS32_ENTRY, XEN, make_bzimage, make_elf

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

#: of every kernel here; make_bzimage's
RELEASE = "6.1.0-56-amd64"
BANNER = f"Linux version {RELEASE} (builder@example) #1 SMP\n".encode()


def bzimage() -> bytes:
    """Return a bzImage that holds a vmlinux."""
    return make_bzimage(gzip.compress(make_elf((XEN, PHYS32_ENTRY)), mtime=0))


def vmlinux(*, pvh: bool = True) -> bytes:
    """Return a vmlinux with sections behind its segments."""
    return make_elf(*([(XEN, PHYS32_ENTRY)] if pvh else [])) + BANNER + b"debug information"


def module(release: str = RELEASE, *, machine: int = 62) -> bytes:
    """Return what the test bed takes for a module; depmod would not."""
    return make_elf(machine=machine) + f"\0vermagic={release} SMP mod_unload \0".encode()


#: a kernel package's files
IMAGE = {f"boot/vmlinuz-{RELEASE}": bzimage(), f"boot/System.map-{RELEASE}": b"ffffffff D end"}
MODULES = {
    f"lib/modules/{RELEASE}/modules.builtin": b"kernel/drivers/virtio/virtio_pci.ko\n",
    f"lib/modules/{RELEASE}/kernel/drivers/net/igb.ko": module(),
}


def write_files(folder: Path, files: Mapping[str, bytes]) -> Path:
    """Write files below a folder."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def zstd(data: bytes) -> bytes:
    """Compress with the host's zstd."""
    return run_tool(["zstd", "-c", "-q"], doing="compressing", stdin=data)


COMPRESS: dict[str, Callable[[bytes], bytes]] = {"gz": gzip.compress, "xz": lzma.compress, "zst": zstd}


def write_deb(
    folder: Path,
    files: Mapping[str, bytes],
    *,
    name: str,
    version: str = "6.1-1",
    architecture: str = "amd64",
    depends: str = "kmod",
    compression: str = "gz",
) -> Path:
    """Write a Debian package (deb(5)): an ar archive of a version, a control.tar and a data.tar."""
    control = f"Package: {name}\nVersion: {version}\nArchitecture: {architecture}\nDepends: {depends}\n"
    members = {
        "debian-binary": b"2.0\n",
        f"control.tar.{compression}": COMPRESS[compression](_tar({"./control": control.encode()})),
        f"data.tar.{compression}": COMPRESS[compression](_tar({f"./{path}": data for path, data in files.items()})),
    }
    path = folder / f"{name}_{version.rpartition(':')[2]}_{architecture}.deb"
    path.write_bytes(b"!<arch>\n" + b"".join(_ar_member(*member) for member in members.items()))
    return path


def _ar_member(name: str, data: bytes) -> bytes:
    return f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(data):<10}`\n".encode() + data + b"\n" * (len(data) % 2)


def _tar(files: Mapping[str, bytes]) -> bytes:
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return whole.getvalue()


def write_rpm(
    folder: Path,
    files: Mapping[str, bytes],
    *,
    name: str,
    version: str = "4.18.0",
    release: str = "553.el8",
    architecture: str = "x86_64",
    compression: str = "xz",
) -> Path:
    """Write an RPM package: lead, signature, header, and a compressed cpio archive."""
    label = f"{name}-{version}-{release}"
    lead = struct.pack(">4sBBHH66sHH16x", b"\xed\xab\xee\xdb", 3, 0, 0, 1, label.encode(), 1, 5)
    signature = _rpm_header({1000: "x"})  # of a length that needs padding
    tags = {1000: name, 1001: version, 1002: release, 1022: architecture, 1124: "cpio", 1125: compression}
    payload = COMPRESS[compression](pack({path: regular(data) for path, data in files.items()}))
    path = folder / f"{label}.{architecture}.rpm"
    path.write_bytes(lead + signature + bytes(-len(signature) % 8) + _rpm_header(tags) + payload)
    return path


def _rpm_header(tags: Mapping[int, str]) -> bytes:
    index, store = b"", b""
    for tag, text in tags.items():
        index += struct.pack(">IIII", tag, 6, len(store), 1)
        store += text.encode() + b"\0"
    return b"\x8e\xad\xe8\x01" + bytes(4) + struct.pack(">II", len(tags), len(store)) + index + store
