"""A Linux kernel's file, bzImage or ELF vmlinux: its release, the vmlinux inside, how QEMU can start it.

The header is that of Documentation/arch/x86/boot.rst, boot protocol 2.08 (2008) or later.
"""

from __future__ import annotations

import bz2
import lzma
import re
import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from testbed.host.tools import find_tool, run_tool
from testbed.image.elf import MACHINES, elf_machine, is_elf64, notes
from testbed.model.errors import BedError, InputError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

#: include/xen/interface/elfnote.h; QEMU starts an ELF kernel at the address this note holds
XEN_ELFNOTE_PHYS32_ENTRY = 18
XLF_KERNEL_64 = 1
OLDEST_PROTOCOL = 0x0208
#: init/version.c: linux_banner
BANNER = re.compile(rb"Linux version (\d[!-~]*) \(")
#: Documentation/arch/arm64/booting.rst, arch/riscv/boot-image-header.rst
FOREIGN_IMAGES = ((0x38, b"ARM\x64", "arm64"), (0x38, b"RSC\x05", "riscv"))


@dataclass(frozen=True, kw_only=True)
class BootHeader:
    """What the set-up header of a bzImage says."""

    release: str  #: as `uname -r` gives it
    payload: bytes  #: the compressed vmlinux


def read_kernel(path: Path) -> bytes:
    """Return a kernel's file; raise InputError if it cannot be read."""
    try:
        return path.read_bytes()
    except PermissionError:
        raise InputError(f"reading kernel {path}: permission denied", hint=f"sudo chmod 0644 {path}") from None
    except OSError as error:
        raise InputError(f"reading kernel {path}: {error.strerror}") from None


def read_release(kernel: bytes, *, source: str) -> str:
    """Return the release of a bzImage or vmlinux; raise InputError, naming `source`, if it is neither."""
    machine = elf_machine(kernel)
    if machine is None:
        return read_header(kernel, source=source).release
    if not is_elf64(kernel):
        raise _unusable(source, f"it is an ELF file for {MACHINES.get(machine, f'machine {machine}')}")
    banner = BANNER.search(kernel)
    if not banner or b"/" in banner[1]:
        raise _unusable(source, "it is an ELF file but not a vmlinux: it contains no `Linux version`")
    return banner[1].decode()


def release_of_start(start: bytes, *, source: str) -> str:
    """Return the release of a bzImage of which only the first 64 KiB are at hand; raise InputError if it is not one."""
    _check_header(start, source)
    return _release(start, source)


def read_header(bzimage: bytes, *, source: str) -> BootHeader:
    """Read the set-up header of a 64-bit x86 bzImage; raise InputError, naming `source`, if it is none."""
    _check_header(bzimage, source)
    return BootHeader(release=_release(bzimage, source), payload=_payload(bzimage, source))


def _check_header(bzimage: bytes, source: str) -> None:
    for offset, magic, architecture in FOREIGN_IMAGES:
        if bzimage[offset : offset + len(magic)] == magic:
            raise _unusable(source, f"it is a kernel for {architecture}")
    if len(bzimage) < 0x264 or bzimage[0x202:0x206] != b"HdrS":
        raise _unusable(source, "it is not an x86 Linux bzImage or vmlinux")
    (version,) = struct.unpack_from("<H", bzimage, 0x206)
    if version < OLDEST_PROTOCOL:
        raise _unusable(source, f"boot protocol {version >> 8}.{version & 255:02d} is older than 2.08")
    # the 64-bit flag came with protocol 2.12
    if version < 0x020C or not bzimage[0x236] & XLF_KERNEL_64:
        raise _unusable(source, "it is not a 64-bit kernel")


def _release(bzimage: bytes, source: str) -> str:
    (offset,) = struct.unpack_from("<H", bzimage, 0x20E)
    text = bzimage[0x200 + offset : 0x200 + offset + 256].split(b"\0")[0].decode("ascii", "replace")
    words = text.split()
    # it names a folder below lib/modules
    if not offset or not words or "/" in words[0] or words[0] in (".", "..") or not words[0].isprintable():
        raise _unusable(source, "its header has no version string")
    return words[0]


def _payload(bzimage: bytes, source: str) -> bytes:
    setup_sectors = bzimage[0x1F1] or 4
    offset, length = struct.unpack_from("<II", bzimage, 0x248)
    start = (setup_sectors + 1) * 512 + offset
    if not length or start + length > len(bzimage):
        raise _unusable(source, "it is truncated: its header points past its end")
    return bzimage[start : start + length]


def extract_vmlinux(header: BootHeader, *, source: str) -> bytes:
    """Decompress the vmlinux, relocations behind it included; raise InputError naming `source` if damaged."""
    for magic, compression, unpack in _COMPRESSIONS:
        if header.payload.startswith(magic):
            vmlinux = _unpack(header.payload, compression, unpack, source)
            if not is_elf64(vmlinux):
                raise _unusable(source, "its payload is not an x86-64 vmlinux")
            return vmlinux
    raise _unusable(source, f"its compression (magic {header.payload[:4].hex()}) is not supported")


def has_pvh_entry(vmlinux: bytes) -> bool:
    """Tell whether QEMU can start this vmlinux through PVH, past the decompressor (CONFIG_PVH)."""
    return any(note.name == b"Xen" and note.type == XEN_ELFNOTE_PHYS32_ENTRY for note in notes(vmlinux))


def _unpack(payload: bytes, compression: str, unpack: Callable[[bytes], bytes], source: str) -> bytes:
    if compression in ("zstd", "lz4"):
        find_tool(compression)  # a missing program is the host's fault, not the kernel's
    try:
        return unpack(payload)
    except (BedError, OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise _unusable(source, f"its {compression} payload is damaged: {error}") from None


def _gunzip(payload: bytes) -> bytes:
    return _whole(zlib.decompressobj(wbits=31), payload)


def _bunzip2(payload: bytes) -> bytes:
    return _whole(bz2.BZ2Decompressor(), payload)


def _unxz(payload: bytes) -> bytes:
    return _whole(lzma.LZMADecompressor(lzma.FORMAT_XZ), payload)


def _unlzma(payload: bytes) -> bytes:
    return _whole(lzma.LZMADecompressor(lzma.FORMAT_ALONE), payload)


def _whole(decompressor: zlib._Decompress | bz2.BZ2Decompressor | lzma.LZMADecompressor, payload: bytes) -> bytes:
    """Decompress one stream; what follows it (the kernel's 4-byte length) is ignored."""
    content = decompressor.decompress(payload)
    if not decompressor.eof:
        raise EOFError("it is truncated")
    return content


def _unzstd(payload: bytes) -> bytes:
    return run_tool(["zstd", "-d", "-c", "-q"], doing="decompressing", stdin=_without_length(payload))


def _unlz4(payload: bytes) -> bytes:
    return run_tool(["lz4", "-d", "-c", "-q"], doing="decompressing", stdin=_without_length(payload))


def _without_length(payload: bytes) -> bytes:
    # the kernel's Makefile.lib appends the vmlinux' length (size_append), over which these tools stumble
    return payload[:-4]


_COMPRESSIONS: tuple[tuple[bytes, str, Callable[[bytes], bytes]], ...] = (
    (b"\x1f\x8b", "gzip", _gunzip),
    (b"\xfd7zXZ\0", "xz", _unxz),
    (b"\x5d\0\0", "lzma", _unlzma),
    (b"BZh", "bzip2", _bunzip2),
    (b"\x02\x21\x4c\x18", "lz4", _unlz4),
    (b"\x28\xb5\x2f\xfd", "zstd", _unzstd),
)


def _unusable(source: str, why: str) -> InputError:
    return InputError(
        f"reading kernel {source}: {why}", hint="give the bzImage or vmlinux of a 64-bit x86 Linux kernel"
    )
