"""A QEMU in a folder of its own: what is said for it to find its files, and what it lacks."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.host.qemu_prefix import (
    PROGRAM,
    Prefix,
    package_of,
    parse_missing,
    parse_strangers,
    prefix_of,
    start_command,
)

LDD = """\
\tlinux-vdso.so.1 (0x00007ffd5a5f2000)
\tlibfuse3.so.4 => not found
\tlibpixman-1.so.0 => /lib/x86_64-linux-gnu/libpixman-1.so.0 (0x00007f7d1c200000)
\tlibaio.so.1t64 => not found
\tlibfuse3.so.4 => not found
\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f7d1b800000)
/opt/q/usr/bin/qemu-system-x86_64: /lib/x86_64-linux-gnu/libc.so.6: version `GLIBC_2.38' not found (required by q)
"""
LOADER = "/opt/q/qemu-system-x86_64: error while loading shared libraries: libslirp.so.0: cannot open shared object\n"
PACKAGES = ["libc6", "libglib2.0-0t64", "libfuse3-4", "libaio1t64", "libpixman-1-0", "libjpeg62-turbo", "libnl-3-200"]


def unpacked(root: Path, *folders: str) -> Prefix:
    for name in ("usr/bin", *folders):
        (root / name).mkdir(parents=True)
    (root / "usr/bin" / PROGRAM).touch()
    return Prefix(root=root)


def test_an_installed_qemu_is_started_as_it_is(tmp_path: Path) -> None:
    assert prefix_of(Path("/usr/bin") / PROGRAM) is None
    assert prefix_of(unpacked(tmp_path).binary) is None, "a binary without data of its own has its own built in"
    assert start_command(Path("/opt/q"), None) == ("/opt/q",)


def test_an_unpacked_qemu_is_told_where_its_data_and_modules_are(tmp_path: Path) -> None:
    modules = "usr/lib/x86_64-linux-gnu/qemu"
    prefix = unpacked(tmp_path, "usr/share/qemu", "usr/share/seabios", modules)
    assert prefix_of(prefix.binary) == prefix
    assert prefix.data_folders == (tmp_path / "usr/share/qemu", tmp_path / "usr/share/seabios")
    env, variable, *rest = prefix.command(prefix.binary)
    assert Path(env).name == "env"
    assert variable == f"QEMU_MODULE_DIR={tmp_path / modules}"
    assert rest == [str(prefix.binary), "-L", f"{tmp_path}/usr/share/qemu", "-L", f"{tmp_path}/usr/share/seabios"]


def test_a_symlink_to_its_binary_is_no_other_qemu(tmp_path: Path) -> None:
    prefix = unpacked(tmp_path / "prefix", "usr/share/qemu")
    link = tmp_path / "my-qemu"
    link.symlink_to(prefix.binary)
    assert prefix_of(link) == prefix
    assert start_command(link, prefix)[0] == str(link)


def test_libraries_of_its_own_come_with_their_loader(tmp_path: Path) -> None:
    prefix = unpacked(tmp_path, "usr/share/qemu", "usr/lib/x86_64-linux-gnu")
    assert prefix.library_folders == (), "libraries without a loader are the modules'"
    loader = tmp_path / "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"
    loader.touch()
    words = prefix.command(prefix.binary)
    assert words[:5] == (str(loader), "--inhibit-cache", "--library-path", str(loader.parent), str(prefix.binary))


def test_a_loader_is_started_by_its_real_name(tmp_path: Path) -> None:
    """Make it as the glibc of Debian 11 does: a file named after its version, links to it beside."""
    usr = "usr/lib/x86_64-linux-gnu"
    prefix = unpacked(tmp_path, "usr/share/qemu", "lib/x86_64-linux-gnu", "lib64", f"{usr}/pulseaudio")
    folder = tmp_path / "lib/x86_64-linux-gnu"
    (folder / "ld-2.31.so").touch()
    (folder / "ld-linux-x86-64.so.2").symlink_to("ld-2.31.so")
    (tmp_path / "lib64/ld-linux-x86-64.so.2").symlink_to("/lib/x86_64-linux-gnu/ld-2.31.so")
    assert prefix.command(prefix.binary)[0] == str(folder / "ld-2.31.so")
    assert prefix.library_folders == (tmp_path / usr, tmp_path / usr / "pulseaudio", folder)


def test_a_library_of_the_hosts_is_no_library_of_a_prefix() -> None:
    printed = (
        "\tlibc.so.6 => /opt/q/lib/libc.so.6 (0x00007f7d1b800000)\n"
        "\tlibz.so.1 => /lib/x86_64-linux-gnu/libz.so.1 (0x00007f7d1c200000)\n"
        "\tlinux-vdso.so.1 (0x00007ffd5a5f2000)\n\tlibaio.so.1 => not found\n"
    )
    assert parse_strangers(printed, Path("/opt/q")) == ("libz.so.1",)


def test_missing_libraries_and_versions_are_read_once_each() -> None:
    assert parse_missing(LDD) == ("libfuse3.so.4", "libaio.so.1t64", "libc.so.6 with GLIBC_2.38")
    assert parse_missing(LOADER) == ("libslirp.so.0",)


@given(st.text())
def test_other_text_names_no_library(text: str) -> None:
    assert all(isinstance(name, str) for name in parse_missing(text))
    assert parse_missing(text.replace("not found", "").replace("error while", "")) == ()


@pytest.mark.parametrize(
    ("library", "package"),
    [
        ("libfuse3.so.4", "libfuse3-4"),
        ("libaio.so.1t64", "libaio1t64"),
        ("libpixman-1.so.0", "libpixman-1-0"),
        ("libglib-2.0.so.0", "libglib2.0-0t64"),
        ("libjpeg.so.62", "libjpeg62-turbo"),
        ("libnl-3.so.200", "libnl-3-200"),
        ("libc.so.6 with GLIBC_2.38", "libc6"),
        ("libunheard.so.9", None),
    ],
)
def test_a_library_leads_to_its_package(library: str, package: str | None) -> None:
    assert package_of(library, PACKAGES) == package
