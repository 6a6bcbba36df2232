"""bzImage headers, every compression of the kernel's, and what is no kernel at all."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import lzma
import struct
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.host.packages import find_program
from testbed.host.tools import run_tool
from testbed.image.elf import PT_NOTE, notes, segments
from testbed.image.kernel import extract_vmlinux, has_pvh_entry, read_header
from testbed.model.errors import BedError, InputError

if TYPE_CHECKING:
    from collections.abc import Callable

SETUP_SECTORS = 7
RELEASE = b"6.1.0-56-amd64 (builder@example) #1 SMP PREEMPT_DYNAMIC\0"
XEN, PHYS32_ENTRY = b"Xen\0", 18


def make_elf(*parts: tuple[bytes, int], machine: int = 62) -> bytes:
    """Build an x86-64 ELF with one PT_NOTE segment."""
    body = b"".join(struct.pack("<III", len(name), 4, kind) + name + b"\0\0\0\1" for name, kind in parts)
    ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    header = ident + struct.pack("<HHIQQQIHHHHHH", 2, machine, 1, 0, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    program = struct.pack("<IIQQQQQQ", PT_NOTE, 4, 120, 0, 0, len(body), len(body), 4)
    return header + program + body + bytes(1000)


def make_bzimage(payload: bytes, *, version: int = 0x020F, xloadflags: int = 1) -> bytes:
    setup = bytearray((SETUP_SECTORS + 1) * 512)
    setup[0x1F1] = SETUP_SECTORS
    setup[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", setup, 0x206, version)
    struct.pack_into("<H", setup, 0x20E, 0x300)
    struct.pack_into("<H", setup, 0x236, xloadflags)
    struct.pack_into("<II", setup, 0x248, 100, len(payload))
    setup[0x500 : 0x500 + len(RELEASE)] = RELEASE
    return bytes(setup) + bytes(100) + payload + b"behind it"


def with_length(compress: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    return lambda data: compress(data) + struct.pack("<I", len(data))


def by_tool(*argv: str) -> Callable[[bytes], bytes]:
    return lambda data: run_tool(argv, doing="compressing", stdin=data)


def xz_as_kernel(data: bytes) -> bytes:
    """Compress as scripts/xz_wrap.sh does."""
    filters = [{"id": lzma.FILTER_X86}, {"id": lzma.FILTER_LZMA2, "dict_size": 1 << 25}]
    return lzma.compress(data, check=lzma.CHECK_CRC32, filters=filters)


COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "xz": with_length(xz_as_kernel),
    "lzma": with_length(lambda data: lzma.compress(data, format=lzma.FORMAT_ALONE)),
    "bzip2": with_length(bz2.compress),
    "lz4": with_length(by_tool("lz4", "-l", "-c", "-q")),
    "zstd": with_length(by_tool("zstd", "-c", "-q")),
}


@pytest.fixture(params=sorted(COMPRESSIONS))
def compression(request: pytest.FixtureRequest) -> str:
    name = str(request.param)
    if name in ("lz4", "zstd") and not find_program(name):
        pytest.skip(f"this host has no {name}")
    return name


def extract(bzimage: bytes) -> bytes:
    return extract_vmlinux(read_header(bzimage, source="k"), source="k")


def test_vmlinux_comes_out_whole(compression: str) -> None:
    vmlinux = make_elf((XEN, PHYS32_ENTRY))
    bzimage = make_bzimage(COMPRESSIONS[compression](vmlinux))
    assert read_header(bzimage, source="k").release == "6.1.0-56-amd64"
    assert extract(bzimage) == vmlinux
    assert has_pvh_entry(vmlinux)


def test_damaged_payload_is_refused(compression: str) -> None:
    payload = COMPRESSIONS[compression](make_elf((XEN, PHYS32_ENTRY)))
    with pytest.raises(InputError, match=rf"kernel k: its {compression} payload is damaged"):
        extract(make_bzimage(payload[: len(payload) // 2]))


def test_foreign_payload_is_refused(compression: str) -> None:
    payload = COMPRESSIONS[compression](make_elf(machine=183))
    with pytest.raises(InputError, match="not an x86-64 vmlinux"):
        extract(make_bzimage(payload))


@pytest.mark.parametrize(
    ("bzimage", "why"),
    [
        (b"", "not an x86 Linux bzImage"),
        (bytes(100_000), "not an x86 Linux bzImage"),
        (make_elf(), "not an x86 Linux bzImage"),
        (make_bzimage(b"x", version=0x0203), "boot protocol 2.03 is older"),
        (make_bzimage(b"x", version=0x0208), "not a 64-bit kernel"),
        (make_bzimage(b"x", xloadflags=0), "not a 64-bit kernel"),
        (make_bzimage(b"x" * 1000)[:-500], "truncated"),
        (make_bzimage(b""), "truncated"),
        (make_bzimage(b"\x89LZO, of old"), r"magic 894c5a4f\) is not supported"),
    ],
)
def test_what_is_no_kernel_is_named(bzimage: bytes, why: str) -> None:
    with pytest.raises(InputError, match=why):
        extract(bzimage)


@pytest.mark.parametrize("text", [b"\0", b" \0", b"../../etc x\0"])
def test_release_is_checked(text: bytes) -> None:
    with pytest.raises(InputError, match="no version string"):
        extract(make_bzimage(b"x").replace(RELEASE, text.ljust(len(RELEASE), b"\0")))


def test_missing_decompressor_is_the_hosts_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("testbed.host.tools.find_program", lambda _: None)
    with pytest.raises(BedError, match="running zstd") as caught:
        extract(make_bzimage(b"\x28\xb5\x2f\xfd...."))
    assert not isinstance(caught.value, InputError)


@pytest.mark.parametrize(
    ("parts", "found"),
    [
        ([], False),
        ([(XEN, PHYS32_ENTRY)], True),
        ([(b"GNU\0", 3), (b"Linux\0\0\0", 1), (XEN, 5), (XEN, PHYS32_ENTRY)], True),
        ([(b"GNU\0", PHYS32_ENTRY), (XEN, 17)], False),
    ],
)
def test_pvh_entry(parts: list[tuple[bytes, int]], found: bool) -> None:
    assert has_pvh_entry(make_elf(*parts)) is found


@given(st.binary(max_size=3000))
def test_arbitrary_bytes_are_only_ever_refused(content: bytes) -> None:
    with pytest.raises(InputError):
        extract(content)
    assert list(notes(content)) == []


# gzip and xz stand for the rest: a process per example would take minutes
@given(st.sampled_from([b"\x1f\x8b", b"\xfd7zXZ\0", b"\x5d\0\0", b"BZh", b"?"]), st.binary(max_size=2000))
def test_arbitrary_payloads_are_only_ever_refused(magic: bytes, rest: bytes) -> None:
    with pytest.raises(InputError):
        extract(make_bzimage(magic + rest))


@given(st.integers(0, 0x27F), st.binary(min_size=1, max_size=8))
def test_garbled_headers_give_a_header_or_are_refused(offset: int, junk: bytes) -> None:
    bzimage = bytearray(make_bzimage(gzip.compress(make_elf())))
    bzimage[offset : offset + len(junk)] = junk
    with contextlib.suppress(InputError):
        extract(bytes(bzimage))


@given(st.integers(0, 200), st.binary(min_size=1, max_size=8))
def test_garbled_elf_files_are_read_or_ignored(offset: int, junk: bytes) -> None:
    content = bytearray(make_elf((XEN, PHYS32_ENTRY)))
    content[offset : offset + len(junk)] = junk
    has_pvh_entry(bytes(content))
    list(segments(bytes(content), PT_NOTE))
