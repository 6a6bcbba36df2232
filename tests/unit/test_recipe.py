"""Image recipes: what is accepted, and what the error says about the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from testbed.host.qemu import Qemu
from testbed.host.qemu_prefix import Prefix
from testbed.image.apt import AptKernel
from testbed.image.level2 import qemu_files
from testbed.image.recipe import (
    image_name,
    load_recipe,
    parse_recipe,
    with_guest_kernel_of,
    with_guest_qemu,
    with_kernel_of,
)
from testbed.model.catalog import RECIPES
from testbed.model.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

GOOD = "description: d\nkernel: apt:linux-image-amd64\nmodules: [virtio_pci]\ntools: [lspci]\n"


def test_recipe_is_read() -> None:
    recipe = parse_recipe(GOOD, source="r")
    assert recipe.modules == ("virtio_pci",)
    assert recipe.tools == ("lspci",)
    assert recipe.source() == AptKernel(package="linux-image-amd64", suite=None)


@pytest.mark.parametrize("suite", ["sid", "{codename}-backports", "bookworm-proposed-updates"])
def test_suite(suite: str) -> None:
    recipe = parse_recipe(f"description: d\nkernel: apt:linux-image-amd64@{suite}\n", source="r")
    assert recipe.source() == AptKernel(package="linux-image-amd64", suite=suite)


@pytest.mark.parametrize(
    "kernel",
    [
        "linux-image-amd64",
        "tar:x",
        "rpm:",
        "path:a,b,c",
        "apt:",
        "apt:x@",
        "apt:a b",
        "apt:a@{release}",
        "apt:a@b c",
        "",
    ],
)
def test_bad_kernel_is_refused_with_its_line(kernel: str) -> None:
    with pytest.raises(InputError, match=r"^r:2: kernel: .*wanted host, path:KERNEL"):
        parse_recipe(f"description: d\nkernel: '{kernel}'\n", source="r")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD + "module: [x]\n", r"r:5: module: Extra inputs"),
        (GOOD.replace("virtio_pci", "../etc"), r"r:3: modules\.0: "),
        (GOOD.replace("virtio_pci", "8250"), r"r:3: modules\.0: .*got int 8250"),
        (GOOD.replace("lspci", "/bin/sh"), r"r:4: tools\.0: "),
        ("kernel: apt:linux\n", r"description: Field required"),
        ("", r"one YAML document, found 0"),
        (GOOD + "---\n" + GOOD, r"one YAML document, found 2"),
        ("just text", r"r:1: document: "),
    ],
)
def test_mistakes_are_named(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_recipe(text, source="r")


def test_description_does_not_decide_the_content() -> None:
    other = parse_recipe(GOOD.replace("description: d", "description: e"), source="r")
    assert other.canonical() == parse_recipe(GOOD, source="r").canonical()
    fewer = parse_recipe(GOOD.replace("virtio_pci", ""), source="r")
    assert fewer.canonical() != other.canonical()


@pytest.mark.parametrize("name", RECIPES.names())
def test_shipped_recipes_are_valid(name: str) -> None:
    assert load_recipe(name).description


def test_unknown_recipe_gets_a_guess() -> None:
    with pytest.raises(InputError, match="image recipe 'debain' does not exist") as caught:
        load_recipe("debain")
    assert caught.value.hint is not None
    assert "did you mean debian?" in caught.value.hint


BACKPORTS = "apt:linux-image-amd64@{codename}-backports"


@pytest.mark.parametrize(
    ("name", "other", "wanted"),
    [
        # what only the kernel tells apart is called what was asked for
        ("debian", "debian-backports", "debian-backports"),
        ("debian-backports", "debian", "debian"),
        ("debian", BACKPORTS, BACKPORTS),
        ("debian-backports", "host", "host"),
        # of any other recipe its modules and its guests stay
        ("level1", "debian-backports", f"level1@{BACKPORTS}"),
        ("level1", "path:/src/linux", "level1@path:/src/linux"),
        ("level1@host", "path:/src/linux", "level1@path:/src/linux"),
        ("level1", "level1", "level1"),
    ],
)
def test_another_image_s_kernel_is_put_into_a_recipe(name: str, other: str, wanted: str) -> None:
    found = with_kernel_of(name, other)
    assert found == wanted
    recipe, own = load_recipe(found), load_recipe(name)
    assert recipe.kernel == load_recipe(other).kernel
    assert (recipe.modules, recipe.guests) == (own.modules, own.guests)


def test_a_recipe_with_another_kernel_has_one_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert image_name("level1@path:linux") == f"level1@path:{tmp_path}/linux"
    assert image_name("debian@path:linux") == f"path:{tmp_path}/linux"
    assert image_name("./my@recipe.yaml") == "./my@recipe.yaml", "what stands behind the @ is no kernel"
    with pytest.raises(InputError, match="level1@path:"):
        load_recipe("level1@path:")
    with pytest.raises(InputError, match="'levle1' does not exist"):
        load_recipe("levle1@host")


def test_the_machines_in_a_guest_get_a_kernel_of_their_own() -> None:
    name = with_guest_kernel_of("level1@host", "debian-backports")
    assert name == "level1@host+guests=debian-backports"
    recipe = load_recipe(name)
    assert (recipe.kernel, recipe.guest_kernel, recipe.guests) == ("host", BACKPORTS, ("debian",))
    assert recipe.canonical() != load_recipe("level1@host").canonical()
    assert with_kernel_of(name, "path:/src/linux") == "level1@path:/src/linux+guests=debian-backports"
    assert with_guest_kernel_of(name, "host") == "level1@host+guests=host"
    assert with_guest_kernel_of("debian", "host") == "debian", "it has no machines in it"
    with pytest.raises(InputError, match="recipe debian has no machines in its guest"):
        load_recipe("debian+guests=host")
    with pytest.raises(InputError, match="'debain' does not exist"):
        with_guest_kernel_of("debian", "debain")


def test_the_machines_in_a_guest_get_a_qemu_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    name = with_guest_qemu("level1@host+guests=debian-backports", "./build/qemu")
    assert name == f"level1@host+guests=debian-backports+qemu={tmp_path}/build/qemu"
    recipe = load_recipe(name)
    assert (recipe.kernel, recipe.guest_kernel, recipe.qemu) == ("host", BACKPORTS, f"{tmp_path}/build/qemu")
    given = name.removeprefix("level1@host")
    assert with_kernel_of(name, "path:/src/linux") == f"level1@path:/src/linux{given}"
    assert with_guest_kernel_of(with_guest_qemu("level1", "trixie"), "host") == "level1+guests=host+qemu=trixie"
    with pytest.raises(InputError, match="recipe debian has no machines in its guest"):
        with_guest_qemu("debian", "trixie")


def test_a_qemu_with_a_c_library_of_its_own_cannot_run_in_a_guest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "usr/lib/x86_64-linux-gnu"
    folder.mkdir(parents=True)
    (folder / "ld-linux-x86-64.so.2").touch()
    prefix = Prefix(root=tmp_path)
    qemu = Qemu(path=tmp_path, version="11", machine_types=(), drivers=frozenset(), sandbox=True, prefix=prefix)
    monkeypatch.setattr("testbed.image.level2.find_qemu", lambda _: qemu)
    with pytest.raises(InputError, match="QEMU trixie: needs the C library that came with it"):
        list(qemu_files("trixie"))
