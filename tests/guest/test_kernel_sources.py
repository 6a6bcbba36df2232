"""Guests of kernels that lie on the host: a .deb, a build tree, a vmlinux with its modules, a lone bzImage."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from testbed.host.apt import AptState
from testbed.host.apt_sources import stanzas_for
from testbed.host.packages import find_program
from testbed.host.tools import run_tool
from testbed.image.store import ensure_image, remove_image
from testbed.model.errors import BrokenError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from testbed.image.store import Image
    from testbed.pytest_plugin import BootFactory


def quiet(_: str) -> None:
    pass


@pytest.fixture
def stock() -> Image:
    return ensure_image("debian", progress=quiet)


@pytest.fixture
def modules(stock: Image, tmp_path: Path) -> Path:
    """Unpack the stock image's modules; return what `make modules_install INSTALL_MOD_PATH=` would have been given."""
    folder = tmp_path / "mods"
    folder.mkdir()
    run_tool(["bsdtar", "-x", "-f", stock.initramfs, "-C", folder, "lib/modules"], doing="unpacking modules")
    return folder


@pytest.fixture
def build() -> Iterator[Callable[[str], Image]]:
    """Return a builder of images that are removed after the test."""
    names: list[str] = []

    def built(name: str) -> Image:
        names.append(name)
        return ensure_image(name, progress=quiet)

    yield built
    for name in names:
        remove_image(name)


@pytest.mark.extended
@pytest.mark.seconds(6)
async def test_a_vmlinux_with_its_modules(
    stock: Image, modules: Path, tmp_path: Path, build: Callable[[str], Image], testbed_boot: BootFactory
) -> None:
    assert stock.vmlinux
    # a build's vmlinux has sections and debug information, which the image leaves out
    (tmp_path / "vmlinux").write_bytes(stock.vmlinux.read_bytes() + bytes(1_000_000))
    name = f"path:{tmp_path}/vmlinux,{modules}"
    image = build(name)
    assert (image.boot, image.bzimage, image.kernel, image.name) == ("pvh", None, stock.kernel, name)
    assert image.kernel_file.stat().st_size < (tmp_path / "vmlinux").stat().st_size - 1_000_000
    assert image.modules == stock.modules
    async with testbed_boot(image=name) as guest:
        assert guest.hello.release == stock.kernel
        await guest.load_modules("virtio_blk", "igb")


@pytest.mark.seconds(6)
async def test_a_build_tree(
    stock: Image, modules: Path, tmp_path: Path, build: Callable[[str], Image], testbed_boot: BootFactory
) -> None:
    """Lay a tree out as `make` leaves it; its modules need no `make modules_install`."""
    assert stock.bzimage
    tree = tmp_path / "linux"
    (tree / "arch/x86/boot").mkdir(parents=True)
    shutil.copyfile(stock.bzimage, tree / "arch/x86/boot/bzImage")
    (tree / "include/config").mkdir(parents=True)
    (tree / "include/config/kernel.release").write_text(stock.kernel)
    installed = modules / "lib/modules" / stock.kernel
    shutil.copyfile(installed / "modules.builtin", tree / "modules.builtin")
    shutil.copytree(installed / "kernel", tree, dirs_exist_ok=True)
    order = [path.relative_to(tree).with_suffix(".o") for path in tree.rglob("*.ko")]
    (tree / "modules.order").write_text("".join(f"{path}\n" for path in order))
    image = build(f"path:{tree}")
    assert (image.bzimage is not None, image.modules, image.absent) == (True, stock.modules, ())
    async with testbed_boot(image=f"path:{tree}") as guest:
        await guest.load_modules("virtio_blk", "igb")


@pytest.mark.seconds(6)
async def test_a_bzimage_alone_has_what_is_built_in(
    stock: Image, tmp_path: Path, build: Callable[[str], Image], testbed_boot: BootFactory
) -> None:
    assert stock.bzimage
    shutil.copyfile(stock.bzimage, tmp_path / "bzImage")
    image = build(f"path:{tmp_path}/bzImage")
    assert (image.kernel, image.modules) == (stock.kernel, ())
    assert "virtio_blk" in image.absent
    async with testbed_boot(image=image.name) as guest:
        assert guest.hello.release == stock.kernel
        with pytest.raises(BrokenError, match="virtio_blk"):
            await guest.load_modules("virtio_blk")


@pytest.mark.seconds(6)
async def test_a_recipes_own_files(
    tmp_path: Path, stock: Image, build: Callable[[str], Image], testbed_boot: BootFactory
) -> None:
    """A dynamically linked program runs, as its libraries come along; a file has the mode it was given."""
    assert stock.bzimage
    shutil.copyfile(stock.bzimage, tmp_path / "bzImage")
    shutil.copyfile(str(find_program("setpci")), tmp_path / "tool")
    (tmp_path / "tool").chmod(0o755)
    (tmp_path / "data").write_text("some data\n")
    (tmp_path / "own.yaml").write_text(
        "description: d\nkernel: path:bzImage\nfiles:\n"
        "- {host: tool, guest: /opt/own/tool}\n- {host: data, guest: /etc/own.conf, mode: '0640'}\n"
    )
    name = str(tmp_path / "own.yaml")
    build(name)
    async with testbed_boot(image=name) as guest:
        assert (await guest.shell.succeed("/opt/own/tool --version")).startswith("setpci")
        assert await guest.shell.succeed("cat /etc/own.conf; stat -c %a /etc/own.conf") == "some data\n640"


@pytest.mark.extended
@pytest.mark.seconds(25)
@pytest.mark.network
@pytest.mark.skipif(not find_program("apt-get"), reason="this host has no apt")
async def test_a_deb(stock: Image, tmp_path: Path, build: Callable[[str], Image], testbed_boot: BootFactory) -> None:
    state = AptState(folder=tmp_path / "apt")
    state.update(stanzas_for(None), "the running release")
    (path,) = state.download([stock.package.split()[0]])
    image = build(f"deb:{path}")
    assert (image.package, image.kernel, image.modules) == (stock.package, stock.kernel, stock.modules)
    async with testbed_boot(image=image.name) as guest:
        await guest.load_modules("virtio_blk", "igb")
