"""Kernel sources as they are written: what is accepted, and where relative paths begin."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.image.apt import AptKernel
from testbed.image.kinds import KINDS, absolute_source, is_source, make_source
from testbed.image.package_kernel import PackageKernel
from testbed.image.path_kernel import HostKernel, PathKernel
from testbed.image.recipe import image_name, load_recipe
from testbed.model.errors import InputError


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("host", HostKernel()),
        ("path:/src/linux", PathKernel(kernel=Path("/src/linux"))),
        ("path:bzImage,mods", PathKernel(kernel=Path("bzImage"), modules=Path("mods"))),
        ("deb:a.deb,b c.deb", PackageKernel(format="deb", files=(Path("a.deb"), Path("b c.deb")))),
        ("rpm:/x/kernel.rpm", PackageKernel(format="rpm", files=(Path("/x/kernel.rpm"),))),
        ("apt:linux-image-amd64@sid", AptKernel(package="linux-image-amd64", suite="sid")),
    ],
)
def test_sources(text: str, source: object) -> None:
    assert is_source(text)
    assert make_source(text) == source


@pytest.mark.parametrize("text", ["host:", "host:x", "path:", "path:a,", "path:,a", "path:a,b,c", "deb:", "rpm:a,,b"])
def test_what_is_meant_as_a_source_but_is_none(text: str) -> None:
    assert is_source(text)
    with pytest.raises(ValueError, match=r"wanted host, path:KERNEL\[,MODULES\], deb:"):
        make_source(text)
    with pytest.raises(InputError, match=rf"^image {text!r}: wanted host, "):
        load_recipe(text)


@pytest.mark.parametrize("text", ["debian", "hosts", "my.yaml", "./path:x/my.yaml", "", ":", "tar:x"])
def test_what_is_a_recipes_name(text: str) -> None:
    assert not is_source(text)
    assert image_name(text) == text


@pytest.mark.parametrize(
    ("text", "absolute"),
    [
        ("path:linux", "path:/src/linux"),
        ("path:.,../mods/", "path:/src,/mods"),
        ("path:~/linux", "path:/home/me/linux"),
        ("deb:a.deb,/b.deb", "deb:/src/a.deb,/b.deb"),
        ("apt:linux-image-amd64@bookworm/updates", "apt:linux-image-amd64@bookworm/updates"),
        ("host", "host"),
    ],
)
def test_relative_paths(text: str, absolute: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert absolute_source(text, Path("/src")) == absolute


@given(st.sampled_from(sorted(KINDS)), st.text())
def test_any_text_is_a_source_or_refused(kind: str, rest: str) -> None:
    text = f"{kind}:{rest}"
    try:
        make_source(text)
    except ValueError:
        return
    absolute = absolute_source(text, Path("/src"))
    assert absolute_source(absolute, Path("/elsewhere")) == absolute
    assert make_source(absolute)


def test_a_source_stands_for_the_stock_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    recipe, stock = load_recipe("path:linux"), load_recipe("debian")
    assert recipe.kernel == image_name("path:linux") == f"path:{tmp_path}/linux"
    assert recipe.model_copy(update={"kernel": stock.kernel}) == stock
