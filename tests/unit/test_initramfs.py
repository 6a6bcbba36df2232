"""The initramfs: the archive format, applet links, tools with their libraries."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.host.packages import find_program, has_static_libc
from testbed.image.cpio import character_device, directory, pack, regular, symlink
from testbed.image.initramfs import (
    applet_links,
    compile_init,
    compile_probe,
    find_libraries,
    pack_initramfs,
    parse_ldd,
    skeleton,
)
from testbed.image.key import init_files
from testbed.model.catalog import shipped_folder
from testbed.model.errors import BedError


@dataclass(frozen=True)
class Member:
    mode: int
    data: bytes
    rdev: tuple[int, int]
    owner: tuple[int, int]
    mtime: int


def unpack(archive: bytes) -> dict[str, Member]:
    """Read a newc archive back, refusing whatever the kernel would."""
    members: dict[str, Member] = {}
    at = 0
    while True:
        assert archive[at : at + 6] == b"070701"
        fields = [int(archive[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
        name_end = at + 110 + fields[11]
        name = archive[at + 110 : name_end - 1].decode()
        assert archive[name_end - 1] == 0
        start = (name_end + 3) & ~3
        data = archive[start : start + fields[6]]
        at = (start + fields[6] + 3) & ~3
        if name == "TRAILER!!!":
            assert at == len(archive)
            return members
        parent = name.rpartition("/")[0]
        assert not parent or stat.S_ISDIR(members[parent].mode), "a directory stands before its content"
        assert name not in members
        members[name] = Member(fields[1], data, (fields[9], fields[10]), (fields[2], fields[3]), fields[5])


def test_archive_reads_back() -> None:
    members = unpack(
        pack(
            {
                "sbin/init": symlink("/bin/busybox"),
                "dev/console": character_device(5, 1),
                "etc/a b": regular(b"text"),
                "tmp": directory(0o1777),
            }
        )
    )
    assert list(members) == ["dev", "dev/console", "etc", "etc/a b", "sbin", "sbin/init", "tmp"]
    assert members["sbin/init"].data == b"/bin/busybox"
    assert stat.S_ISLNK(members["sbin/init"].mode)
    assert members["dev/console"].rdev == (5, 1)
    assert stat.S_ISCHR(members["dev/console"].mode)
    assert stat.filemode(members["tmp"].mode) == "drwxrwxrwt"
    assert all(member.owner == (0, 0) and member.mtime == 0 for member in members.values())


names = st.text(st.sampled_from("ab.-_"), min_size=1, max_size=4).filter(lambda name: name not in (".", ".."))
paths = st.lists(names, min_size=1, max_size=3).map("/".join)


@given(st.dictionaries(paths, st.binary(max_size=9)))
def test_any_files_read_back(files: dict[str, bytes]) -> None:
    # a path cannot be a file and a folder at once
    folders = {str(parent) for name in files for parent in Path(name).parents}
    tree = {name: regular(data) for name, data in files.items() if name not in folders}
    archive = pack(tree)
    found = {name: member.data for name, member in unpack(archive).items() if stat.S_ISREG(member.mode)}
    assert found == {name: entry.data for name, entry in tree.items()}
    assert pack(dict(reversed(tree.items()))) == archive, "the order given does not show"


def test_busybox_is_not_linked_to_itself() -> None:
    links = applet_links(["bin/sh", "bin/busybox", "busybox", "usr/bin/lspci", "usr/bin/["], {"lspci"})
    assert sorted(links) == ["bin/sh", "usr/bin/["]
    assert links["bin/sh"].data == b"/bin/busybox"


def test_skeleton_has_a_console() -> None:
    members = unpack(pack(skeleton()))
    assert members["dev/console"].rdev == (5, 1)
    assert {"proc", "sys", "dev", "tmp", "run", "mnt", "root", "etc"} <= members.keys()


LDD = """\
\tlinux-vdso.so.1 (0x00007fef1ec48000)
\tlibpci.so.3 => /lib/x86_64-linux-gnu/libpci.so.3 (0x00007fef1ec0a000)
\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007fef1ea0b000)
\t/lib64/ld-linux-x86-64.so.2 => /usr/lib64/ld-linux-x86-64.so.2 (0x00007fef1ec4a000)
"""


def test_ldd_is_read() -> None:
    assert parse_ldd(LDD) == [
        Path("/lib/x86_64-linux-gnu/libpci.so.3"),
        Path("/lib/x86_64-linux-gnu/libc.so.6"),
        Path("/lib64/ld-linux-x86-64.so.2"),
    ]
    assert parse_ldd("\t/lib64/ld-linux-x86-64.so.2 (0x0)\n") == [Path("/lib64/ld-linux-x86-64.so.2")]
    assert parse_ldd("\tstatically linked\n") == []
    with pytest.raises(BedError, match=r"libfoo\.so\.1 is not on this host"):
        parse_ldd("\tlibfoo.so.1 => not found\n")


def test_scripts_need_no_libraries(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\n")
    assert find_libraries([script]) == []


@pytest.mark.skipif(not has_static_libc(), reason="this host has no static libc")
@pytest.mark.skipif(not find_program("busybox"), reason="this host has no busybox")
@pytest.mark.skipif(not find_program("setpci"), reason="this host has no setpci")
def test_initramfs_is_whole_and_reproducible(tmp_path: Path) -> None:
    for name in ("one", "two"):
        compile_init(
            [source for source in init_files() if source.suffix == ".c"],
            tmp_path / name,
        )
        compile_probe(shipped_folder("guest-images") / "probe.c", tmp_path / f"probe-{name}")
    modules = tmp_path / "stage"
    (modules / "lib/modules/6.1").mkdir(parents=True)
    (modules / "lib/modules/6.1/modules.dep").write_text("x")
    (modules / "usr").symlink_to(".")
    busybox, setpci = (Path(str(find_program(name))) for name in ("busybox", "setpci"))
    one, two = (
        pack_initramfs(
            init=tmp_path / name,
            probe=tmp_path / f"probe-{name}",
            busybox=busybox,
            tools=[setpci],
            modules=modules,
            files={},
            programs=[],
        )
        for name in ("one", "two")
    )
    assert one == two
    members = unpack(one)
    assert stat.filemode(members["init"].mode) == "-rwxr-xr-x"
    assert members["init"].data == (tmp_path / "one").read_bytes()
    assert members["bin/busybox"].data == busybox.read_bytes()
    assert members["lib/modules/6.1/modules.dep"].data == b"x"
    assert members[str(setpci).lstrip("/")].data == setpci.read_bytes()
    assert "lib64/ld-linux-x86-64.so.2" in members
    assert any(name.endswith("/sh") for name in members)


@pytest.mark.skipif(not find_program("gcc"), reason="this host has no gcc")
def test_compiler_is_quoted(tmp_path: Path) -> None:
    (tmp_path / "init.c").write_text("int main(void) { return nothing; }\n")
    with pytest.raises(BedError, match=r"compiling init\.c for the guest: .*\n?.*nothing"):
        compile_init([tmp_path / "init.c"], tmp_path / "init")
