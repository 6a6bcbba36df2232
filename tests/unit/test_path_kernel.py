"""Kernels that lie on the host: build trees, files with modules around them, the running kernel."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.image import build
from testbed.image.kernel import read_release
from testbed.image.module_files import built_modules
from testbed.image.modules import stage_modules
from testbed.image.path_kernel import HostKernel, PathKernel
from testbed.model.errors import InputError
from tests.unit.kernel_files import BANNER, IMAGE, MODULES, RELEASE, bzimage, module, vmlinux, write_files
from tests.unit.test_kernel import make_elf

IGB = "kernel/drivers/net/igb.ko"
BZIMAGE = "arch/x86/boot/bzImage"
TREE = {
    "include/config/kernel.release": RELEASE.encode(),
    "modules.builtin": b"kernel/drivers/virtio/virtio_pci.ko\n",
    "modules.order": b"drivers/net/igb.o\nkernel/trace/t.o\n",
    "drivers/net/igb.ko": module(),
    "kernel/trace/t.ko": module(),
}


def seen(source: PathKernel | HostKernel, tmp_path: Path) -> tuple[Path, dict[str, Path]]:
    """Fetch; return the kernel and where each module's link leads."""
    found = source.fetch(tmp_path / "scratch", lambda _: None, [])
    assert found.release == RELEASE
    assert found.modules == tmp_path / "scratch/tree/lib/modules" / RELEASE
    links = {str(path.relative_to(found.modules)): path.readlink() for path in found.modules.rglob("*.ko*")}
    assert set(source.inputs()) >= {found.kernel, *links.values()}
    return found.kernel, links


def refused(source: PathKernel | HostKernel) -> tuple[str, str]:
    with pytest.raises(InputError) as caught:
        source.inputs()
    return caught.value.message, caught.value.hint or ""


def test_build_tree_with_the_modules_left_in_it(tmp_path: Path) -> None:
    tree = write_files(tmp_path / "linux", {**TREE, BZIMAGE: bzimage()})
    kernel, links = seen(PathKernel(kernel=tree), tmp_path)
    assert kernel == tree / BZIMAGE
    assert links == {IGB: tree / "drivers/net/igb.ko", "kernel/kernel/trace/t.ko": tree / "kernel/trace/t.ko"}
    assert tree / "modules.builtin" in PathKernel(kernel=tree).inputs()


def test_older_trees_list_the_installed_names(tmp_path: Path) -> None:
    order = b"kernel/drivers/net/igb.ko\nkernel/kernel/trace/t.ko\n"
    tree = write_files(tmp_path, {**TREE, "modules.order": order})
    assert built_modules(tree).keys() >= {IGB, "kernel/kernel/trace/t.ko"}


def test_modules_that_are_not_built(tmp_path: Path) -> None:
    tree = write_files(tmp_path, {**TREE, BZIMAGE: bzimage(), "modules.order": b"drivers/net/e1000.o\n"})
    message, hint = refused(PathKernel(kernel=tree))
    assert message == f"looking for the modules of {tree}: modules.order names drivers/net/e1000.o, which is not built"
    assert hint == f"make -C {tree}"


def test_the_newer_of_bzimage_and_vmlinux(tmp_path: Path) -> None:
    tree = write_files(tmp_path, {**TREE, BZIMAGE: bzimage(), "vmlinux": vmlinux()})
    for newer, older in ((BZIMAGE, "vmlinux"), ("vmlinux", BZIMAGE)):
        os.utime(tree / newer, ns=(0, 2_000_000_000))
        os.utime(tree / older, ns=(0, 1_000_000_000))
        assert PathKernel(kernel=tree).inputs()[0] == tree / newer


@pytest.mark.parametrize("kernel", ["vmlinux", BZIMAGE])
def test_a_file_of_a_build_tree(tmp_path: Path, kernel: str) -> None:
    tree = write_files(tmp_path / "linux", {**TREE, BZIMAGE: bzimage(), "vmlinux": vmlinux()})
    _, links = seen(PathKernel(kernel=tree / kernel), tmp_path)
    assert IGB in links


@pytest.mark.parametrize(
    "layout", [{"boot/vmlinuz": "lib/modules"}, {"vmlinuz": "usr/lib/modules"}, {f"lib/modules/{RELEASE}/vmlinuz": ""}]
)
def test_modules_around_a_file(tmp_path: Path, layout: dict[str, str]) -> None:
    ((kernel, base),) = layout.items()
    folder = f"{base or 'lib/modules'}/{RELEASE}"
    write_files(tmp_path / "root", {kernel: bzimage(), f"{folder}/{IGB}": module(), f"{folder}/modules.dep": b""})
    _, links = seen(PathKernel(kernel=tmp_path / "root" / kernel), tmp_path)
    assert links == {IGB: tmp_path / "root" / folder / IGB}


def test_an_unpacked_package(tmp_path: Path) -> None:
    root = write_files(tmp_path / "x", {**IMAGE, **MODULES})
    kernel, links = seen(PathKernel(kernel=root), tmp_path)
    assert kernel == root / f"boot/vmlinuz-{RELEASE}"
    assert list(links) == [IGB]


@pytest.mark.parametrize("given_folder", ["mods", f"mods/lib/modules/{RELEASE}"])
def test_given_modules(tmp_path: Path, given_folder: str) -> None:
    write_files(tmp_path / "mods", {**MODULES, f"lib/modules/{RELEASE}/modules.order": b""})
    kernel = write_files(tmp_path, {"vmlinux": vmlinux()}) / "vmlinux"
    _, links = seen(PathKernel(kernel=kernel, modules=tmp_path / given_folder), tmp_path)
    assert links == {IGB: tmp_path / "mods/lib/modules" / RELEASE / IGB}


def test_a_build_tree_as_given_modules(tmp_path: Path) -> None:
    tree = write_files(tmp_path / "linux", TREE)
    kernel = write_files(tmp_path, {"copy": bzimage()}) / "copy"
    _, links = seen(PathKernel(kernel=kernel, modules=tree), tmp_path)
    assert IGB in links


def test_no_modules_at_all(tmp_path: Path) -> None:
    """Everything may be built in; and nothing is written beside what is the user's."""
    kernel = write_files(tmp_path / "own", {"bzImage": bzimage()}) / "bzImage"
    said: list[str] = []
    found = PathKernel(kernel=kernel).fetch(tmp_path / "scratch", said.append, [])
    assert list(found.modules.iterdir()) == []
    assert said == [f"{kernel}: no modules found, continuing with built-in drivers"]
    assert list((tmp_path / "own").iterdir()) == [kernel]


def test_modules_of_another_kernel_by_their_folder(tmp_path: Path) -> None:
    kernel = write_files(tmp_path, {"bzImage": bzimage()}) / "bzImage"
    mods = write_files(tmp_path / "mods", {"lib/modules/6.9-other/kernel/a.ko": module()})
    message, hint = refused(PathKernel(kernel=kernel, modules=mods))
    assert message == f"looking for modules of kernel {RELEASE} in {mods}: those in it are for 6.9-other"
    assert hint == f"in the kernel's tree: make modules_install INSTALL_MOD_PATH={mods}"
    assert refused(PathKernel(kernel=kernel, modules=tmp_path / "no"))[0].endswith("no: no such folder")
    (tmp_path / "empty").mkdir()
    assert refused(PathKernel(kernel=kernel, modules=tmp_path / "empty"))[0].endswith("there are none in it")


def stage(tmp_path: Path, content: bytes) -> None:
    source = tmp_path / "lib/modules" / RELEASE
    write_files(source, {"a.ko": content, "modules.dep": b"a.ko:\n"})
    stage_modules(source, ["a"], tmp_path / "stage")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (module("6.9-other"), f"a.ko: it is for kernel 6.9-other, not for {RELEASE}"),
        (module(machine=183), "a.ko: it is not for 64-bit x86"),
        (b"text", "a.ko: it is damaged or not a module"),
    ],
)
def test_modules_of_another_kernel_by_what_they_say(tmp_path: Path, content: bytes, why: str) -> None:
    with pytest.raises(InputError) as caught:
        stage(tmp_path, content)
    assert caught.value.message.endswith(why)


def test_garbled_tables_are_refused(tmp_path: Path) -> None:
    source = tmp_path / "lib/modules" / RELEASE
    for table in ({"modules.dep": b"a b c\n"}, {"modules.dep": b"", "modules.alias": b"alias one two three\n"}):
        write_files(source, table)
        with pytest.raises(InputError, match=f"reading modules in {source}: depmod's tables are garbled"):
            stage_modules(source, ["a"], tmp_path / "stage")


@pytest.mark.parametrize(
    ("files", "why", "mend"),
    [
        ({}, "found neither arch/x86/boot/bzImage nor vmlinux nor boot/vmlinuz-* in it", "make -C "),
        ({"boot/vmlinuz-1": b"", "boot/vmlinuz-2": b""}, "there are 2: vmlinuz-1, vmlinuz-2", "boot/vmlinuz-1"),
    ],
)
def test_folder_without_one_kernel(tmp_path: Path, files: dict[str, bytes], why: str, mend: str) -> None:
    message, hint = refused(PathKernel(kernel=write_files(tmp_path, files)))
    assert message == f"looking for a kernel in {tmp_path}: {why}"
    assert mend in hint


def test_what_is_no_kernel(tmp_path: Path) -> None:
    contents = {
        "text": (b"text" * 999, "it is not an x86 Linux bzImage or vmlinux"),
        "program": (make_elf(), "it is an ELF file but not a vmlinux"),
        "arm64.elf": (make_elf(machine=183), "it is an ELF file for arm64"),
        "Image": (bytes(0x38) + b"ARM\x64" + bytes(999), "it is a kernel for arm64"),
    }
    for name, (content, why) in contents.items():
        (tmp_path / name).write_bytes(content)
        assert f"reading kernel {tmp_path / name}: {why}" in refused(PathKernel(kernel=tmp_path / name))[0]
    assert "no such file or folder" in refused(PathKernel(kernel=tmp_path / "none"))[0]


def place(kernel: bytes, folder: Path) -> dict[str, bytes]:
    build._place_kernel(kernel, folder, "k 1")
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_vmlinux_goes_into_the_image_without_its_debug_information(tmp_path: Path) -> None:
    whole = vmlinux()
    placed = place(whole, tmp_path)
    assert list(placed) == ["vmlinux"]
    assert len(placed["vmlinux"]) < len(make_elf())
    assert b"debug information" not in placed["vmlinux"]


def test_a_bzimage_goes_into_the_image_with_the_vmlinux_in_it(tmp_path: Path) -> None:
    assert sorted(place(bzimage(), tmp_path)) == ["bzimage", "vmlinux"]


def test_a_vmlinux_that_qemu_cannot_start(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no PVH entry \(CONFIG_PVH\)") as caught:
        place(vmlinux(pvh=False), tmp_path)
    assert caught.value.hint == "give the bzImage of the same build"
    with pytest.raises(InputError, match="it is truncated"):
        place(vmlinux()[:130], tmp_path)


def host(root: Path) -> HostKernel:
    return HostKernel(root=root, release=RELEASE)


@pytest.mark.parametrize(
    ("kernel", "modules"),
    [(f"boot/vmlinuz-{RELEASE}", "lib"), (f"usr/lib/modules/{RELEASE}/vmlinuz", "usr/lib")],
)
def test_running_kernel(tmp_path: Path, kernel: str, modules: str) -> None:
    root = write_files(tmp_path / "root", {kernel: bzimage(), f"{modules}/modules/{RELEASE}/{IGB}": module()})
    found, links = seen(host(root), tmp_path)
    assert found == root / kernel
    assert list(links) == [IGB]


def test_running_kernel_that_is_missing(tmp_path: Path) -> None:
    message, hint = refused(host(tmp_path))
    assert message.startswith(f"looking for the running kernel {RELEASE}: found neither {tmp_path}/boot/vmlinuz-")
    assert "apt:PACKAGE" in hint
    write_files(tmp_path, IMAGE)
    message, hint = refused(host(tmp_path))
    assert f"found neither {tmp_path}/lib/modules/{RELEASE} nor" in message
    assert hint.startswith("reboot")


def test_running_kernel_for_root_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_files(tmp_path, {**IMAGE, **MODULES})
    monkeypatch.setattr(os, "access", lambda *_: False)
    message, hint = refused(host(tmp_path))
    assert message.endswith(f"{tmp_path}/boot/vmlinuz-{RELEASE} is readable only by root")
    assert hint.startswith(f"sudo chmod 0644 {tmp_path}/boot/vmlinuz-{RELEASE}; or ")


def test_unreadable_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "k").touch()

    def deny(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", deny)
    assert refused(PathKernel(kernel=tmp_path / "k"))[1] == f"sudo chmod 0644 {tmp_path}/k"


def test_release_of_a_vmlinux() -> None:
    assert read_release(vmlinux(), source="k") == RELEASE


@given(st.binary(max_size=300))
def test_any_elf_gives_a_release_or_is_refused(junk: bytes) -> None:
    """What follows `Linux version` names a folder below lib/modules."""
    content = make_elf() + BANNER[:14] + junk + b" ("
    try:
        release = read_release(content, source="k")
    except InputError:
        return
    assert "/" not in release
    assert release.isprintable()
