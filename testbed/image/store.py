"""The image store: built images in the cache folder `images`, addressed by their content.

    KEY.lock          held by whoever builds or removes; never deleted, since others may wait for it
    KEY/current       symlink to the ID in use, replaced atomically
    KEY/ID/           initramfs, image.json, and the kernel: bzimage, vmlinux where QEMU can start it, or both
    KEY/tmp-…/        a build under way, or what a killed one left

KEY is what the image was asked to be (recipe, init, tools), ID the sha256 of what it came to be. A kernel or file that
lies on the host is not part of KEY: image.json holds its fingerprint, and an image whose fingerprint is no longer true
is built again in its place. So a kernel tree that is rebuilt a hundred times leaves two images, not a hundred.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import zlib
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from testbed.host.cache import cache_folder
from testbed.host.file_lock import lock
from testbed.image.key import BZIMAGE, FORMAT, INITRAMFS, VMLINUX, image_key
from testbed.image.level2 import image_files, qemu_files
from testbed.image.recipe import fingerprint, image_name, load_recipe, with_kernel_of
from testbed.model.errors import BedError, InputError
from testbed.model.json_reader import parse_json, sealed, unsealed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from testbed.image.build import Built
    from testbed.image.recipe import Recipe
    from testbed.image.source import Progress

RECORD = "image.json"
SCRATCH = "tmp-"


@dataclass(frozen=True, kw_only=True)
class Image:
    """A kernel and an initramfs on the disk, ready to boot."""

    name: str  #: the recipe's, or the kernel source with absolute paths
    id: str  #: sha256 over the content of kernel and initramfs
    key: str  #: sha256 over what it was asked to be
    folder: Path
    kernel: str  #: release, such as `6.1.0-56-amd64`
    package: str  #: such as `linux-image-6.1.0-56-amd64 6.1.192-2`
    bzimage: Path | None  #: None: a vmlinux was given
    vmlinux: Path | None  #: None: this kernel has no PVH entry
    initramfs: Path
    modules: tuple[str, ...]  #: loadable modules in the initramfs
    absent: tuple[str, ...]  #: modules the recipe wants and this kernel lacks
    size: int  #: bytes of the initramfs

    @property
    def kernel_file(self) -> Path:
        """Return what QEMU starts: the vmlinux where it has a PVH entry, which halves the boot; else the bzImage."""
        kernel = self.vmlinux or self.bzimage
        assert kernel, "an image has one or the other"
        return kernel

    @property
    def boot(self) -> Literal["pvh", "bzimage"]:
        """Return how QEMU starts it."""
        return "pvh" if self.vmlinux else "bzimage"


def ensure_image(name: str, *, progress: Progress, refresh: bool = False) -> Image:
    """Return the image of a recipe or kernel source, building it if need be.

    It is built if it is not there, or if what it was made of on this host has changed; `refresh` builds it anyway, and
    so asks the archive for a newer kernel. Two builders of one image are safe: the second waits and takes what the
    first built.

    Raises:
        InputError: no such recipe, kernel, package or suite, or it cannot be used.
        BedError: the host lacks a program, network or disk space.
    """
    name = image_name(name)
    recipe = _with_level2(load_recipe(name), partial(ensure_image, progress=progress))
    folder = _images() / image_key(name, recipe)
    inputs = fingerprint(recipe.inputs())
    if not refresh and (found := _read_fresh(folder, inputs)):
        return found
    with _locked(folder, on_wait=lambda: progress(f"waiting for another build of image {name}")):
        found = None if refresh else _read_fresh(folder, inputs)
        # the fingerprint is from before the build: a change during it makes the next caller build again
        return found or _build(name, recipe, inputs, folder, progress)


def find_image(name: str, *, unread: bool = False) -> Image | None:
    """Return the image of a recipe or kernel source if it is built, undamaged and of today's files.

    With `unread`, a file of the right size counts as undamaged: for whoever only says that it is there. Raises
    InputError for an unknown recipe.
    """
    name = image_name(name)
    recipe = load_recipe(name)
    try:
        recipe = _with_level2(recipe, partial(find_image, unread=unread))
        inputs = fingerprint(recipe.inputs())
    except InputError:
        return None  # what it would be built from is not there
    return _read_fresh(_images() / image_key(name, recipe), inputs, unread=unread)


def _with_level2(recipe: Recipe, image: Callable[[str], Image | None]) -> Recipe:
    """Return the recipe with the files that machines of its guest need; raise InputError if an image is not there."""
    if not recipe.guests:
        return recipe
    files = list(qemu_files(recipe.qemu))
    for guest in recipe.guests:
        if (found := image(with_kernel_of(guest, recipe.guest_kernel) if recipe.guest_kernel else guest)) is None:
            raise InputError(f"image {guest}: is not built")
        files += image_files(guest, found.kernel_file, found.initramfs)
    return recipe.model_copy(update={"files": (*recipe.files, *files)})


def list_images() -> list[Image]:
    """Return every undamaged image of the store, also those of older recipes, by name."""
    images = filter(None, map(_read_current, _key_folders()))
    return sorted(images, key=lambda image: (image.name, image.key))


def remove_image(name: str) -> int:
    """Remove every image of that recipe or kernel source, also stale and damaged ones; return how many.

    A QEMU that runs from one is not disturbed; one that is about to start will not find its files.
    """
    doomed = [folder for folder in _key_folders() if _read_record(folder).get("name") == image_name(name)]
    for folder in doomed:
        with _locked(folder):
            shutil.rmtree(folder)
    return len(doomed)


def _images() -> Path:
    return cache_folder("images").absolute()


def _key_folders() -> list[Path]:
    return sorted(path for path in _images().glob("*") if path.is_dir())


def _read_record(folder: Path) -> dict[str, Any]:
    """Return what image.json of a key's current image says; nothing if there is none."""
    try:
        record = unsealed(parse_json((folder / "current" / RECORD).read_bytes()))
    except (OSError, ValueError):
        return {}
    return record if record.get("format") == FORMAT else {}


def _read_current(folder: Path, *, unread: bool = False) -> Image | None:
    """Return the current image of a key, or None if there is none or a member is not what was written."""
    try:
        place = folder / (folder / "current").readlink()
        record = _read_record(folder)
        sums = dict.fromkeys(record["members"]) if unread else record["sums"]
        whole = all(_is_whole(place / name, size, sums[name]) for name, size in record["members"].items())
        return _image(place, record) if whole else None
    except (OSError, LookupError, TypeError, AttributeError):
        return None


def _is_whole(path: Path, size: int, crc: int | None) -> bool:
    """Return whether a file is what was written: its size, and its sum if that is given.

    It is read once a process, unless it changes.
    """
    state = path.stat()
    if state.st_size != size or crc is None:
        return state.st_size == size
    return _known_crc(path, state.st_ino, state.st_mtime_ns, state.st_ctime_ns) == crc


@lru_cache(maxsize=256)
def _known_crc(path: Path, *_state: int) -> int:
    return _crc(path)


def _crc(path: Path) -> int:
    """Return the CRC-32 of a file: proof against damage, not against an attacker."""
    crc = 0
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            crc = zlib.crc32(block, crc)
    return crc


def _read_fresh(folder: Path, inputs: str, *, unread: bool = False) -> Image | None:
    """Return the current image of a key if it was made of inputs with this fingerprint."""
    return _read_current(folder, unread=unread) if _read_record(folder).get("inputs", "") == inputs else None


def _image(place: Path, record: dict[str, Any]) -> Image:
    return Image(
        name=record["name"],
        id=place.name,
        key=place.parent.name,
        folder=place,
        kernel=record["kernel"],
        package=record["package"],
        bzimage=place / BZIMAGE if BZIMAGE in record["members"] else None,
        vmlinux=place / VMLINUX if VMLINUX in record["members"] else None,
        initramfs=place / INITRAMFS,
        modules=tuple(record["modules"]),
        absent=tuple(record["absent"]),
        size=record["members"][INITRAMFS],
    )


@contextlib.contextmanager
def _locked(folder: Path, on_wait: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold the lock of a key; the kernel lets go of it when the holder dies."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{folder.name}.lock").open("w") as file:
        if not lock(file.fileno(), wait=False):
            on_wait()
            lock(file.fileno())
        yield


def _build(name: str, recipe: Recipe, inputs: str, folder: Path, progress: Progress) -> Image:
    """Build aside, then move into place in one step; the caller holds the key's lock."""
    # an image that is there needs nothing of what builds one
    from testbed.image.build import build_members  # noqa: PLC0415

    _sweep_all()
    _sweep(folder)
    try:
        folder.mkdir(exist_ok=True)
        with _scratch(folder) as scratch:
            draft = scratch / "image"
            draft.mkdir()
            built = build_members(recipe, draft, scratch, progress)
            return _install(_seal(draft, name, inputs, built), folder, scratch)
    except OSError as error:
        raise BedError(f"building image {name}: {error}", hint=f"free space below {_images()}") from error


@contextlib.contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """Hold a temporary folder in the same file system, so that its content can be moved into place."""
    scratch = Path(tempfile.mkdtemp(prefix=SCRATCH, dir=folder))
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _seal(draft: Path, name: str, inputs: str, built: Built) -> Path:
    """Write image.json beside the members, put everything on the disk, and name the folder by its content."""
    files = sorted(draft.iterdir())
    members = {path.name: path.stat().st_size for path in files}
    sums = {path.name: _crc(path) for path in files}
    record = {"format": FORMAT, "name": name, "inputs": inputs, "members": members, "sums": sums, **asdict(built)}
    (draft / RECORD).write_text(json.dumps(sealed(record), indent=2) + "\n", encoding="utf-8")
    for path in (*draft.iterdir(), draft):
        _sync(path)
    return draft.rename(draft.with_name(_content_id(draft)))


def _install(sealed: Path, folder: Path, scratch: Path) -> Image:
    """Move a sealed image to its place and make it the current one of its key."""
    place = folder / sealed.name
    if place.exists():  # damaged, or built again from the same package
        place.rename(scratch / "replaced")
    sealed.rename(place)
    (scratch / "current").symlink_to(place.name)
    (scratch / "current").replace(folder / "current")
    _sync(folder)
    return _image(place, _read_record(folder))


def _content_id(draft: Path) -> str:
    digest = hashlib.sha256()
    # a vmlinux beside a bzImage follows from it
    kernel = BZIMAGE if (draft / BZIMAGE).exists() else VMLINUX
    for member in (kernel, INITRAMFS):
        digest.update((draft / member).read_bytes())
    return digest.hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sweep(folder: Path) -> None:
    """Remove what killed builders left and superseded images; the caller holds the lock."""
    current = folder / "current"
    kept = {current.name, str(current.readlink()) if current.is_symlink() else ""}
    for path in folder.glob("*"):
        if path.name not in kept:
            shutil.rmtree(path, ignore_errors=True)


def _sweep_all() -> None:
    """Sweep every key nobody works on: one whose recipe has changed is never built again."""
    for folder in _key_folders():
        with contextlib.suppress(BlockingIOError), _locked(folder, on_wait=_give_up):
            _sweep(folder)


def _give_up() -> None:
    raise BlockingIOError
