"""The image store with a builder that fetches nothing: hits, damage, races, killed builders."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from testbed.image import build, key, store
from testbed.image.build import Built
from testbed.image.recipe import load_recipe
from testbed.image.store import ensure_image, find_image, list_images, remove_image
from testbed.model.errors import BedError, InputError
from tests.unit.kernel_files import bzimage, write_files

if TYPE_CHECKING:
    from testbed.image.recipe import Recipe
    from testbed.image.source import Progress

TOP = Path(store.__file__).parents[2]


class Builder:
    """Stands in for the real building; counts, and can be told what to build."""

    def __init__(self) -> None:
        self.builds = 0
        self.bzimage = b"kernel"
        self.error: Exception | None = None

    def __call__(self, recipe: Recipe, folder: Path, scratch: Path, progress: Progress) -> Built:
        self.builds += 1
        progress("building")
        (scratch / "debris").mkdir()
        (folder / "bzimage").write_bytes(self.bzimage)
        if self.error:
            raise self.error
        (folder / "initramfs").write_bytes(b"files")
        return Built(kernel="6.1", package="linux 6.1-1", modules=recipe.modules, absent=("x",))


@pytest.fixture
def builder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Builder:
    builder = Builder()
    monkeypatch.delenv("TESTBED_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(build, "build_members", builder)
    monkeypatch.setattr(store, "image_key", lambda name, _: f"key-of-{name.replace('/', '-')}")
    return builder


def quiet(_: str) -> None:
    pass


def scratch_folders(tmp_path: Path) -> list[Path]:
    return list(tmp_path.rglob("tmp-*"))


def test_image_is_built_once(builder: Builder, tmp_path: Path) -> None:
    assert find_image("debian") is None
    said: list[str] = []
    image = ensure_image("debian", progress=said.append)
    assert said == ["building"]
    assert image == find_image("debian") == ensure_image("debian", progress=quiet)
    assert builder.builds == 1
    assert (image.name, image.kernel, image.package) == ("debian", "6.1", "linux 6.1-1")
    assert (image.size, image.absent, image.vmlinux) == (5, ("x",), None)
    assert (image.kernel_file, image.boot) == (image.bzimage, "bzimage")
    assert image.kernel_file.read_bytes() == b"kernel"
    assert image.folder == tmp_path / "testbed/images/key-of-debian" / image.id
    assert scratch_folders(tmp_path) == []


def test_id_is_the_content(builder: Builder) -> None:
    first = ensure_image("debian", progress=quiet)
    again = ensure_image("debian", progress=quiet, refresh=True)
    assert again == first
    builder.bzimage = b"newer kernel"
    newer = ensure_image("debian", progress=quiet, refresh=True)
    assert newer.id != first.id
    assert find_image("debian") == newer
    assert first.kernel_file.exists(), "whoever holds the old one may still start it"
    ensure_image("debian", progress=quiet, refresh=True)
    assert not first.folder.exists(), "but not for ever"
    assert builder.builds == 4


@pytest.mark.parametrize("damage", ["remove", "truncate", "record", "lists", "link"])
def test_damaged_image_is_rebuilt(builder: Builder, damage: str) -> None:
    image = ensure_image("debian", progress=quiet)
    if damage == "remove":
        image.kernel_file.unlink()
    elif damage == "truncate":
        image.initramfs.write_bytes(b"f")
    elif damage == "link":
        (image.folder.parent / "current").unlink()
    else:
        (image.folder / "image.json").write_text('{"members": ' if damage == "record" else "[]")
    assert find_image("debian") is None
    assert list_images() == []
    assert ensure_image("debian", progress=quiet) == image
    assert builder.builds == 2
    assert find_image("debian") == image


def test_of_an_image_that_is_not_read_only_the_size_tells(builder: Builder) -> None:
    image = ensure_image("debian", progress=quiet)
    image.initramfs.write_bytes(bytes(image.size))
    assert find_image("debian") is None
    assert find_image("debian", unread=True) == image
    image.initramfs.write_bytes(bytes(image.size + 1))
    assert find_image("debian", unread=True) is None


def test_list_and_remove(builder: Builder) -> None:
    names = ["debian-backports", "debian"]
    for name in names:
        ensure_image(name, progress=quiet)
    assert [image.name for image in list_images()] == ["debian", "debian-backports"]
    assert remove_image("debian") == 1
    assert [image.name for image in list_images()] == ["debian-backports"]
    assert remove_image("debian") == 0
    assert builder.builds == 2


def test_images_of_older_recipes_are_listed_and_removed(builder: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    ensure_image("debian", progress=quiet)
    monkeypatch.setattr(store, "image_key", lambda name, _: f"other-key-of-{name}")
    ensure_image("debian", progress=quiet)
    assert len(list_images()) == 2
    assert remove_image("debian") == 2
    assert builder.builds == 2


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a build tree, the current folder."""
    folder = write_files(tmp_path / "linux", {"arch/x86/boot/bzImage": bzimage(), "drivers/a.ko": b"a"})
    write_files(folder, {"include/config/kernel.release": b"6", "modules.order": b"drivers/a.o\n"})
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize("changed", ["arch/x86/boot/bzImage", "drivers/a.ko"])
def test_changed_build_tree_is_built_again_in_its_place(builder: Builder, tree: Path, changed: str) -> None:
    first = ensure_image("path:.", progress=quiet)
    assert first == ensure_image(f"path:{tree}", progress=quiet) == find_image("path:../linux")
    assert builder.builds == 1
    status = (tree / changed).stat()
    os.utime(tree / changed, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert find_image("path:.") is None, "stale"
    builder.bzimage = b"rebuilt"
    second = ensure_image("path:.", progress=quiet)
    assert second.kernel_file.read_bytes() == b"rebuilt"
    assert second.key == first.key
    assert [image.name for image in list_images()] == [f"path:{tree}"]


def test_change_during_the_build_is_seen_by_the_next(builder: Builder, tree: Path) -> None:
    def progress(_: str) -> None:
        os.utime(tree / "drivers/a.ko", ns=(0, builder.builds))

    ensure_image("path:.", progress=progress)
    assert find_image("path:.") is None


def test_image_of_a_tree_that_is_gone(builder: Builder, tree: Path) -> None:
    ensure_image("path:.", progress=quiet)
    shutil.rmtree(tree / "arch")
    assert find_image("path:.") is None
    with pytest.raises(InputError, match=f"looking for a kernel in {tree}"):
        ensure_image("path:.", progress=quiet)
    assert len(list_images()) == 1
    assert remove_image("path:.") == 1
    assert builder.builds == 1


def test_changed_file_of_a_recipe_is_taken_again(builder: Builder, tmp_path: Path) -> None:
    text = "description: d\nkernel: apt:linux-image-amd64\nfiles:\n- {host: tool, guest: /tool}\n"
    recipe = write_files(tmp_path, {"own.yaml": text.encode(), "tool": b"one"}) / "own.yaml"
    ensure_image(str(recipe), progress=quiet)
    ensure_image(str(recipe), progress=quiet)
    assert builder.builds == 1
    (tmp_path / "tool").write_text("another")
    ensure_image(str(recipe), progress=quiet)
    assert builder.builds == 2
    (tmp_path / "tool").unlink()
    assert find_image(str(recipe)) is None


def test_image_of_a_vmlinux_alone(builder: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    def build_vmlinux(recipe: Recipe, folder: Path, scratch: Path, progress: Progress) -> Built:
        built = builder(recipe, folder, scratch, progress)
        (folder / "bzimage").rename(folder / "vmlinux")
        return built

    monkeypatch.setattr(build, "build_members", build_vmlinux)
    image = ensure_image("debian", progress=quiet)
    assert (image.bzimage, image.boot) == (None, "pvh")
    assert image.kernel_file == image.vmlinux
    assert find_image("debian") == image


def test_failed_build_leaves_nothing(builder: Builder, tmp_path: Path) -> None:
    builder.error = OSError(28, "No space left on device")
    with pytest.raises(BedError, match=r"building image debian: .*No space left"):
        ensure_image("debian", progress=quiet)
    builder.error = InputError("no such package")
    with pytest.raises(InputError, match="no such package"):
        ensure_image("debian", progress=quiet)
    assert find_image("debian") is None
    assert scratch_folders(tmp_path) == []
    builder.error = None
    assert ensure_image("debian", progress=quiet)


def test_unknown_recipe() -> None:
    with pytest.raises(InputError, match="does not exist"):
        find_image("nosuch")


# The child tells "building" on its standard output, then builds on when a line comes on its standard input.
CHILD = """
import sys
from testbed.image import build, store
from testbed.image.build import Built

def build_half(recipe, folder, scratch, progress):
    (folder / "bzimage").write_bytes(b"half")
    print("building", flush=True)
    sys.stdin.readline()
    (folder / "bzimage").write_bytes(b"kernel")
    (folder / "initramfs").write_bytes(b"files")
    return Built(kernel="6.1", package="p", modules=(), absent=())

build.build_members = build_half
store.image_key = lambda name, recipe: sys.argv[1]
print(store.ensure_image("debian", progress=lambda line: print(line, flush=True)).id)
"""


def start_child(cache: Path, key: str = "key-of-debian") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, key],
        cwd=TOP,
        env={**os.environ, "TESTBED_CACHE": str(cache / "testbed")},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def read_line(child: subprocess.Popen[str]) -> str:
    assert child.stdout
    return child.stdout.readline().strip()


def test_second_builder_takes_what_the_first_built(tmp_path: Path) -> None:
    with start_child(tmp_path) as first:
        assert read_line(first) == "building"
        with start_child(tmp_path) as second:
            assert read_line(second) == "waiting for another build of image debian"
            told_first, _ = first.communicate("go on\n")
            told_second, _ = second.communicate()
    assert told_first == told_second != ""
    assert (first.returncode, second.returncode) == (0, 0)


def test_killed_builder_leaves_no_half_image(builder: Builder, tmp_path: Path) -> None:
    with start_child(tmp_path) as child:
        assert read_line(child) == "building"
        assert find_image("debian") is None
        child.kill()
    assert len(scratch_folders(tmp_path)) == 1
    assert find_image("debian") is None
    assert list_images() == []
    image = ensure_image("debian", progress=quiet)
    assert image.kernel_file.read_bytes() == b"kernel"
    assert builder.builds == 1
    assert scratch_folders(tmp_path) == []


def test_what_killed_builders_left_goes_whatever_is_built_next(builder: Builder, tmp_path: Path) -> None:
    with start_child(tmp_path, "key-of-an-old-recipe") as dead, start_child(tmp_path, "key-at-work") as alive:
        assert read_line(dead) == read_line(alive) == "building"
        dead.kill()
        dead.wait()
        ensure_image("debian", progress=quiet)
        assert [path.parent.name for path in scratch_folders(tmp_path)] == ["key-at-work"]
        alive.communicate("go on\n")
    assert alive.returncode == 0
    assert builder.builds == 1


def test_key_covers_recipe_and_tools(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("busybox", "lspci", "setpci"):
        (tmp_path / name).write_text(name)
    monkeypatch.setattr(key, "find_tool", lambda program: tmp_path / program)
    recipe = load_recipe("debian")
    before = key.image_key("debian", recipe)
    assert before == key.image_key("debian", recipe.model_copy(update={"description": "another"}))
    assert before != key.image_key("other", recipe)
    assert before != key.image_key("debian", recipe.model_copy(update={"modules": ()}))
    (tmp_path / "setpci").write_text("a newer setpci")
    assert before != key.image_key("debian", recipe)


@pytest.mark.parametrize("name", ["level1", "level1+guests=debian-backports"])
def test_an_image_with_machines_in_it_holds_theirs_with_the_kernel_they_are_to_have(
    builder: Builder, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(store, "qemu_files", lambda _: iter(()))
    held: list[str] = []

    def files(guest: str, kernel: Path, initramfs: Path) -> list[object]:
        held.append(f"{guest} of {kernel.parents[1].name}")
        assert initramfs.parent == kernel.parent
        return []

    monkeypatch.setattr(store, "image_files", files)
    ensure_image(name, progress=quiet)
    inner = "apt:linux-image-amd64@{codename}-backports" if "+" in name else "debian"
    assert held == [f"debian of key-of-{inner}"]
    assert builder.builds == 2
