"""Kernel modules of a recipe's own: built by the kernel's own make, put to its modules, refused without headers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from testbed.image.drivers import add_drivers
from testbed.image.path_kernel import PathKernel
from testbed.image.recipe import load_recipe
from testbed.image.source import FetchedKernel
from testbed.model.errors import BedError, InputError

if TYPE_CHECKING:
    from pathlib import Path

#: what kbuild does with `M=`, as far as it concerns a caller
MAKEFILE = "modules:\n\tgrep -q 'obj-m := closer.o' $(M)/Kbuild && cp $(M)/closer.c $(M)/closer.ko\n"


def kernel(folder: Path, headers: Path | None) -> FetchedKernel:
    modules = folder / "lib/modules/6.1.0"
    modules.mkdir(parents=True)
    (modules / "modules.dep").touch()
    given = None if headers is None else lambda: headers
    return FetchedKernel(kernel=folder, modules=modules, release="6.1.0", package="linux 6.1", headers=given)


def source(folder: Path) -> Path:
    path = folder / "closer.c"
    path.write_text("int x;\n")
    return path


def test_a_driver_is_built_and_stands_among_the_modules(tmp_path: Path) -> None:
    (tmp_path / "Makefile").write_text(MAKEFILE)
    fetched = kernel(tmp_path, tmp_path)
    told: list[str] = []
    assert add_drivers([source(tmp_path)], fetched, tmp_path, told.append) == ["closer"]
    assert (fetched.modules / "extra/closer.ko").read_text() == "int x;\n"
    assert not (fetched.modules / "modules.dep").exists(), "depmod must look again"
    assert told == ["building closer.c for 6.1.0"]


def test_what_cannot_be_built_is_told(tmp_path: Path) -> None:
    path = source(tmp_path)
    with pytest.raises(InputError, match=r"no headers of linux 6.1, so closer\.c cannot be built for it"):
        add_drivers([path], kernel(tmp_path / "without", None), tmp_path, print)
    (tmp_path / "Makefile").write_text("modules:\n\t@echo closer.c:1: unknown type >&2; exit 1\n")
    with pytest.raises(BedError, match=r"building closer\.c for 6\.1\.0: make ended with status 2: .*unknown type"):
        add_drivers([path], kernel(tmp_path / "with", tmp_path), tmp_path, print)


def test_a_build_tree_has_its_own_headers(tmp_path: Path) -> None:
    tree = tmp_path / "linux"
    (tree / "include/config").mkdir(parents=True)
    (tree / "include/config/kernel.release").touch()
    kernel_file = tree / "arch/x86/boot/bzImage"
    assert PathKernel(kernel=kernel_file).build_tree(kernel_file) == tree
    assert PathKernel(kernel=kernel_file, modules=tree).build_tree(tmp_path / "vmlinuz") == tree
    assert PathKernel(kernel=kernel_file).build_tree(tmp_path / "boot/vmlinuz") is None


def test_a_recipe_s_drivers_are_files_beside_it(tmp_path: Path) -> None:
    recipe = tmp_path / "own.yaml"
    recipe.write_text("description: d\nkernel: apt:linux-image-amd64\ndrivers: [closer.c]\n")
    with pytest.raises(InputError, match=r"drivers: .*closer\.c: there is no such file"):
        load_recipe(str(recipe)).inputs()
    assert load_recipe("level1-closer").driver_files[0].name == "port-closer.c"
    assert source(tmp_path) in load_recipe(str(recipe)).inputs()
