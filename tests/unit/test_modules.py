"""Module closures over depmod's tables, and the staged tree."""

from __future__ import annotations

import gzip
import lzma
from typing import TYPE_CHECKING

import pytest

from testbed.host.packages import find_program
from testbed.host.tools import run_tool
from testbed.image.modules import SIGNATURE, find_closure, module_name, read_index, stage_modules
from testbed.model.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

RELEASE = "6.1.0-1-test"
TABLES = {
    "modules.dep": (
        "kernel/drivers/net/igb.ko.xz: kernel/drivers/dca/dca.ko.xz kernel/i2c-algo-bit.ko.xz\n"
        "kernel/drivers/dca/dca.ko.xz:\n"
        "kernel/i2c-algo-bit.ko.xz:\n"
        "kernel/drivers/sd_mod.ko.xz: kernel/crc-t10dif.ko.xz\n"
        "kernel/crc-t10dif.ko.xz:\n"
        "kernel/crct10dif_pclmul.ko.xz:\n"
        "kernel/ring-a.ko.xz:\n"
        "kernel/ring-b.ko.xz:\n"
    ),
    "modules.softdep": (
        "# Soft dependencies extracted from modules themselves.\n"
        "softdep crc_t10dif pre: crct10dif nothing-here post: igb\n"
        "softdep ring_a pre: ring-b\n"
        "softdep ring_b pre: ring-a\n"
    ),
    "modules.alias": "# Aliases\nalias crct10dif crct10dif_pclmul\nalias pci:v0* igb\n",
    "modules.builtin": "kernel/drivers/tty/serial/8250/8250.ko\nkernel/drivers/virtio/virtio-pci.ko\n",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "lib" / "modules" / RELEASE
    folder.mkdir(parents=True)
    for name, text in TABLES.items():
        (folder / name).write_text(text)
    return folder


def closure(folder: Path, *wanted: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    found = find_closure(read_index(folder), wanted)
    return found.names, found.absent


def test_dependencies_come_along(folder: Path) -> None:
    assert closure(folder, "igb") == (("dca", "i2c_algo_bit", "igb"), ())


def test_soft_dependencies_come_along_by_alias(folder: Path) -> None:
    assert closure(folder, "sd-mod") == (("crc_t10dif", "crct10dif_pclmul", "sd_mod"), ())


def test_circular_soft_dependencies_end(folder: Path) -> None:
    assert closure(folder, "ring_a") == (("ring_a", "ring_b"), ())


def test_builtin_is_there_and_unknown_is_recorded(folder: Path) -> None:
    assert closure(folder, "8250", "virtio_pci", "aer_inject", "dca") == (("dca",), ("aer_inject",))


def test_nothing_wanted(folder: Path) -> None:
    assert closure(folder) == ((), ())


@pytest.mark.parametrize("path", ["kernel/a/virtio-net.ko", "virtio-net.ko.xz", "b/virtio_net.ko.zst"])
def test_names_are_spelt_the_kernels_way(path: str) -> None:
    assert module_name(path) == "virtio_net"


COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "a.ko": lambda data: data,
    "sub/b.ko.xz": lzma.compress,
    "c.ko.gz": gzip.compress,
    "d-d.ko.zst": lambda data: run_tool(["zstd", "-c", "-q"], doing="compressing", stdin=data),
}


@pytest.mark.skipif(not find_program("depmod"), reason="this host has no depmod")
@pytest.mark.skipif(not find_program("zstd"), reason="this host has no zstd")
def test_staged_modules_are_plain_and_indexed(tmp_path: Path, module: bytes) -> None:
    """Stage from a package without depmod's tables, with every compression."""
    source = tmp_path / "package" / "lib" / "modules" / RELEASE
    for name, compress in COMPRESS.items():
        path = source / "kernel" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(compress(module))
    (source / "modules.builtin").write_text("kernel/e.ko\n")
    found = stage_modules(source, ["a", "b", "d_d", "e", "f"], tmp_path / "stage")
    assert (found.names, found.absent) == (("a", "b", "d_d"), ("f",))
    staged = tmp_path / "stage" / "lib" / "modules" / RELEASE
    for name in ("a.ko", "sub/b.ko", "d-d.ko"):
        assert (staged / "kernel" / name).read_bytes() == module
    table = (staged / "modules.dep").read_text().splitlines()
    assert sorted(table) == ["kernel/a.ko:", "kernel/d-d.ko:", "kernel/sub/b.ko:"]
    assert (staged / "modules.builtin").exists()


@pytest.mark.skipif(not find_program("depmod"), reason="this host has no depmod")
@pytest.mark.parametrize("signature", [b"", SIGNATURE])
def test_debug_information_is_left_out_unless_a_signature_covers_it(tmp_path: Path, signature: bytes) -> None:
    module = compile_module(tmp_path, "-g") + signature
    source = tmp_path / "package" / "lib" / "modules" / RELEASE
    source.mkdir(parents=True)
    (source / "a.ko").write_bytes(module)
    stage_modules(source, ["a"], tmp_path / "stage")
    staged = (tmp_path / "stage/lib/modules" / RELEASE / "a.ko").read_bytes()
    assert (staged == module) is bool(signature)
    assert (b".debug_info" in staged) is bool(signature)
    assert b"license=GPL" in staged


@pytest.mark.parametrize("name", ["a.ko", "a.ko.xz", "a.ko.gz", "a.ko.zst"])
def test_damaged_module_is_the_users(tmp_path: Path, name: str) -> None:
    if name.endswith("zst") and not find_program("zstd"):
        pytest.skip("this host has no zstd")
    source = tmp_path / "lib" / "modules" / RELEASE
    source.mkdir(parents=True)
    (source / name).write_bytes(b"\x7fEL")
    (source / "modules.dep").write_text(f"{name}:\nb.ko:\n")
    with pytest.raises(InputError, match=f"reading module {source / name}: "):
        stage_modules(source, ["a"], tmp_path / "stage")
    with pytest.raises(InputError, match=r"b\.ko: .*No such file"):
        stage_modules(source, ["b"], tmp_path / "other")


@pytest.fixture
def module(tmp_path: Path) -> bytes:
    """Return an object file that depmod takes for a module without dependencies."""
    return compile_module(tmp_path)


def compile_module(tmp_path: Path, *flags: str) -> bytes:
    if not find_program("gcc"):
        pytest.skip("this host has no gcc")
    path = tmp_path / "module.o"
    text = b'__attribute__((section(".modinfo"), used)) static const char info[] = "license=GPL";'
    run_tool(["gcc", *flags, "-c", "-x", "c", "-o", path, "-"], doing="compiling", stdin=text)
    return path.read_bytes()
