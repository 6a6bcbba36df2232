"""Kernel and modules in an unpacked package."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from testbed.image.source import find_kernel
from testbed.model.errors import InputError
from tests.unit.kernel_files import RELEASE, bzimage, module, write_files

if TYPE_CHECKING:
    from pathlib import Path


def unpack(folder: Path, kernels: list[str], modules: str) -> None:
    write_files(folder / "package", {name: bzimage() for name in kernels})
    write_files(folder / "package", {f"{modules}/modules.dep": b"", f"{modules}/kernel/a.ko.xz": module()})


@pytest.mark.parametrize(
    ("kernels", "modules"),
    [
        ([f"boot/vmlinuz-{RELEASE}"], f"lib/modules/{RELEASE}"),
        ([f"boot/vmlinuz-{RELEASE}"], f"usr/lib/modules/{RELEASE}"),
        ([f"usr/lib/modules/{RELEASE}/vmlinuz"], f"usr/lib/modules/{RELEASE}"),
        ([f"lib/modules/{RELEASE}/vmlinuz"], f"lib/modules/{RELEASE}"),
        ([f"lib/modules/{RELEASE}/vmlinuz", f"boot/vmlinuz-{RELEASE}"], f"lib/modules/{RELEASE}"),
    ],
)
def test_kernel_and_modules_are_found_in_every_layout(tmp_path: Path, kernels: list[str], modules: str) -> None:
    unpack(tmp_path, kernels, modules)
    found = find_kernel(tmp_path, "p 1")
    assert (found.release, found.package) == (RELEASE, "p 1")
    assert found.kernel.read_bytes() == bzimage()
    assert (found.modules / "kernel/a.ko.xz").is_file()
    assert found.modules.parts[-3:] == ("lib", "modules", RELEASE)
    assert not (found.modules / "modules.dep").exists(), "of one package of several; depmod makes another"


def test_package_without_kernel_or_modules(tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    with pytest.raises(InputError, match="found 0") as caught:
        find_kernel(tmp_path, "coreutils 9", hint="give another")
    assert caught.value.hint == "give another"
    unpack(tmp_path, [f"boot/vmlinuz-{RELEASE}"], "lib/modules/6.1-other")
    with pytest.raises(InputError, match=rf"no modules for its kernel {RELEASE}, but some for 6\.1-other"):
        find_kernel(tmp_path, "p 1")


def test_lists_alone_are_no_modules(tmp_path: Path) -> None:
    write_files(tmp_path / "package", {f"boot/vmlinuz-{RELEASE}": bzimage()})
    write_files(tmp_path / "package", {f"lib/modules/{RELEASE}/modules.builtin": b"kernel/a.ko\n"})
    with pytest.raises(InputError, match=rf"it holds no modules for its kernel {RELEASE}$"):
        find_kernel(tmp_path, "kernel-core 4.18")


def test_a_link_out_of_the_package_is_not_followed(tmp_path: Path) -> None:
    unpack(tmp_path, ["elsewhere"], f"lib/modules/{RELEASE}")
    (tmp_path / "package/boot").mkdir()
    (tmp_path / f"package/boot/vmlinuz-{RELEASE}").symlink_to(tmp_path / "package/elsewhere")
    with pytest.raises(InputError, match="found 0"):
        find_kernel(tmp_path, "p 1")
