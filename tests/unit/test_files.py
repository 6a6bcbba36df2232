"""A recipe's own files: where they may go, with which mode, and what is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from testbed.image.cpio import directory, regular, symlink
from testbed.image.files import HostFile, read_files
from testbed.image.initramfs import check_places
from testbed.image.recipe import load_recipe, parse_recipe
from testbed.model.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

RECIPE = "description: d\nkernel: path:linux,mods\nfiles:\n"


def parse(entry: str) -> HostFile:
    (file,) = parse_recipe(f"{RECIPE}- {entry}\n", source="r").files
    return file


def test_files_are_read_with_their_modes(tmp_path: Path) -> None:
    for name in ("tool", "data"):
        (tmp_path / name).write_text(name)
    (tmp_path / "tool").chmod(0o700)
    recipe = parse_recipe(
        f"{RECIPE}- {{host: tool, guest: /usr/bin/tool}}\n"
        "- {host: data, guest: /etc/data}\n"
        "- {host: data, guest: /etc/secret, mode: '0600'}\n",
        source="r",
    )
    assert read_files(recipe.relative_to(tmp_path).files) == {
        "usr/bin/tool": regular(b"tool", 0o755),
        "etc/data": regular(b"data", 0o644),
        "etc/secret": regular(b"data", 0o600),
    }


def test_paths_begin_at_the_recipes_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own").mkdir()
    (tmp_path / "own/r.yaml").write_text(f"{RECIPE}- {{host: tool, guest: /tool}}\n")
    recipe = load_recipe("own/r.yaml")
    assert recipe.kernel == f"path:{tmp_path}/own/linux,{tmp_path}/own/mods"
    assert recipe.files[0].host == f"{tmp_path}/own/tool"


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("{host: a, guest: tool}", r"r:4: files\.0\.guest: .*wanted the file's full path"),
        ("{host: a, guest: /a/../b}", "wanted the file's full path"),
        ("{host: a, guest: /a/}", "wanted the file's full path"),
        ("{host: a, guest: /}", "wanted the file's full path"),
        ("{host: a, guest: /init}", "belongs to the test bed"),
        ("{host: a, guest: /bin/busybox}", "belongs to the test bed"),
        ("{host: a, guest: /tmp/a}", "the guest mounts something over /tmp"),
        ("{host: a, guest: /a, mode: 0755}", r"r:4: files\.0\.mode: .*got int 493"),
        ("{host: a, guest: /a, mode: '788'}", r"files\.0\.mode: "),
        ("{host: a}", r"files\.0\.guest: Field required"),
        ("{host: a, guest: /a}\n- {host: b, guest: /a}", "/a is given twice"),
    ],
)
def test_mistakes_are_named(entry: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse(entry)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"files: {tmp_path}/a \(for /a\): does not exist"):
        read_files([parse("{host: a, guest: /a}").relative_to(tmp_path)])
    with pytest.raises(InputError, match=rf"files: {tmp_path} \(for /a\): is a folder"):
        read_files([parse("{host: ., guest: /a}").relative_to(tmp_path)])


@pytest.mark.parametrize(
    ("guest", "message"),
    [
        ("bin", "/bin is a folder in the guest"),
        ("etc", "/etc is a folder in the guest"),
        ("bin/sh/x", "/bin/sh is a file"),
        ("opt/a/b", "/opt/a is a file"),
    ],
)
def test_file_where_a_folder_must_be(guest: str, message: str) -> None:
    tree = {"etc": directory(), "bin/sh": symlink("/bin/busybox")}
    with pytest.raises(InputError, match=message):
        check_places({guest: regular(b""), "opt/a": regular(b"")}, tree)
    check_places({"bin/sh": regular(b"")}, tree)
