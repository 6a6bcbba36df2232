"""An image recipe: `guest-images/NAME.yaml`, which kernel, modules, tools and files a guest gets.

Wherever a recipe is named, a kernel source (`host`, `path:/src/linux`) may stand instead: it means the recipe `debian`
with that kernel. `RECIPE@SOURCE` is any recipe with another kernel than its own, `RECIPE+guests=IMAGE` one whose
machines in its guest (L2) get the kernel of another image, and `RECIPE+qemu=QEMU` one whose guest has another QEMU.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints

from testbed.image.files import HostFile  # noqa: TC001 (pydantic reads the annotation when the class is made)
from testbed.image.kinds import absolute_path, absolute_source, is_source, make_source
from testbed.model.catalog import RECIPES
from testbed.model.errors import InputError
from testbed.model.yaml_reader import parse_yaml, read_yaml

if TYPE_CHECKING:
    from collections.abc import Iterable

    from testbed.image.source import KernelSource
    from testbed.model.yaml_reader import Document

#: the recipe that lends its modules, tools and files to a bare kernel source
STOCK = "debian"
#: between a recipe and the kernel source it is to have: `level1@path:/src/linux`
_WITH = "@"
#: before the image whose kernel the machines in its guest get: `level1+guests=debian-backports`
_GUESTS = "+guests="
#: before the QEMU that its guest runs machines with, behind all else: `level1+qemu=/opt/qemu-system-x86_64`
_QEMU = "+qemu="
#: what a disk whose own user space is to run is called before its name
WHOLE = f"whole{_WITH}"


def _check_kernel(text: str) -> str:
    make_source(text)
    return text


def _check_guest_kernel(text: str) -> str:
    return _check_kernel(text) if text else ""


def _check_files(files: tuple[HostFile, ...]) -> tuple[HostFile, ...]:
    twice = [guest for guest, count in Counter(file.guest for file in files).items() if count > 1]
    if twice:
        raise ValueError(f"{twice[0]} is given twice")
    return files


ModuleName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]+$")]
ToolName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._+-]+$")]


class Recipe(BaseModel):
    """What an image is made of."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    description: str
    kernel: Annotated[str, AfterValidator(_check_kernel)]  #: where it comes from, see kinds.py
    modules: tuple[ModuleName, ...] = ()  #: what they depend on comes along
    drivers: tuple[str, ...] = ()  #: C files of kernel modules, relative to the recipe's folder, built for its kernel
    tools: tuple[ToolName, ...] = ()  #: programs of the host, taken with their libraries
    files: Annotated[tuple[HostFile, ...], AfterValidator(_check_files)] = ()
    guests: tuple[str, ...] = ()  #: images it can boot by itself; a QEMU comes along, see level2.py
    guest_kernel: Annotated[str, AfterValidator(_check_guest_kernel)] = ""  #: in place of those images' own
    qemu: str = ""  #: which QEMU that is: a path or a name; empty: the default one
    whole: bool = False  #: the guest switches to the user space of the disk that its kernel is from

    def canonical(self) -> str:
        """Return what of the recipe decides the image's content, as one text."""
        return json.dumps(self.model_dump(exclude={"description"}, exclude_defaults=True), sort_keys=True)

    def source(self) -> KernelSource:
        """Return where the kernel comes from."""
        return make_source(self.kernel)

    def inputs(self) -> list[Path]:
        """Return the host's files that the image is made of; raise InputError if one is missing or unusable."""
        return [*self.source().inputs(), *(file.path for file in self.files), *self.driver_files]

    @property
    def driver_files(self) -> list[Path]:
        """Return the C files of its own kernel modules; raise InputError for one that is not there."""
        paths = [Path(name) for name in self.drivers]
        for path in paths:
            if not path.is_file():
                raise InputError(f"drivers: {path}: there is no such file")
        return paths

    def relative_to(self, folder: Path) -> Recipe:
        """Return the recipe with its paths made absolute: they are written relative to this folder."""
        files = tuple(file.relative_to(folder) for file in self.files)
        kernel = absolute_source(self.kernel, folder)
        guest_kernel = absolute_source(self.guest_kernel, folder) if self.guest_kernel else ""
        drivers = tuple(absolute_path(name, folder) for name in self.drivers)
        changes = {"kernel": kernel, "guest_kernel": guest_kernel, "files": files, "drivers": drivers}
        return self.model_copy(update=changes)


@dataclass(frozen=True, kw_only=True)
class _Parts:
    """What the name of an image is put together from."""

    recipe: str
    source: str = ""  #: in place of the recipe's kernel
    guests: str = ""  #: whose kernel machines in its guest get
    qemu: str = ""  #: what runs them

    def __str__(self) -> str:
        own = self.recipe
        if self.source:
            own = self.source if self.recipe == STOCK else f"{self.recipe}{_WITH}{self.source}"
        guests = f"{_GUESTS}{image_name(self.guests)}" if self.guests else ""
        return f"{own}{guests}" + (f"{_QEMU}{self.qemu}" if self.qemu else "")


def image_name(name: str) -> str:
    """Return what an image is called that is asked for as `name`: kernel source and QEMU get absolute paths."""
    parts = _split(name)
    try:
        source = absolute_source(parts.source, Path.cwd()) if parts.source else ""
    except ValueError as error:
        raise InputError(f"image {name!r}: {error}") from None
    qemu = absolute_path(parts.qemu, Path.cwd()) if "/" in parts.qemu else parts.qemu
    return str(replace(parts, source=source, qemu=qemu))


def with_kernel_of(name: str, other: str) -> str:
    """Return the image `name` with the kernel of another, and all else as it is; it is called the other if it is that.

    Raises InputError for an unknown recipe or a wrong source.
    """
    own, given = load_recipe(name), load_recipe(other)
    if own.canonical() == given.model_copy(update={"kernel": own.kernel}).canonical():
        return other
    return image_name(str(replace(_split(name), source=given.kernel)))


def with_guest_kernel_of(name: str, other: str) -> str:
    """Return the image `name` with another's kernel for the machines in its guest; itself if it has none of these.

    Raises InputError for an unknown recipe or a wrong source.
    """
    load_recipe(other)
    return image_name(str(replace(_split(name), guests=other))) if load_recipe(name).guests else name


def with_guest_qemu(name: str, qemu: str) -> str:
    """Return the image `name` with another QEMU for the machines in its guest.

    Raises InputError for an unknown recipe, or one whose guest runs no machines.
    """
    changed = image_name(str(replace(_split(name), qemu=qemu)))
    load_recipe(changed)
    return changed


def _split(name: str) -> _Parts:
    """Return what the name of an image is put together from."""
    name, _, qemu = name.partition(_QEMU)
    name, _, guests = name.partition(_GUESTS)
    if is_source(name):
        return _Parts(recipe=STOCK, source=name, guests=guests, qemu=qemu)
    recipe, _, source = name.partition(_WITH)
    if is_source(source):
        return _Parts(recipe=recipe, source=source, guests=guests, qemu=qemu)
    return _Parts(recipe=name, guests=guests, qemu=qemu)


def load_recipe(name: str) -> Recipe:
    """Read the recipe called `name`, or the one that it names with another kernel.

    Raises:
        InputError: there is no such recipe, or something is wrong in it (with file and line).
    """
    parts = _split(image_name(name))
    path = RECIPES.find(parts.recipe)
    recipe = _only_document(read_yaml(path), str(path)).relative_to(path.absolute().parent)
    if (parts.guests or parts.qemu) and not recipe.guests:
        raise InputError(f"image {name!r}: recipe {parts.recipe} has no machines in its guest", hint="level1 has")
    guest_kernel = load_recipe(parts.guests).kernel if parts.guests else ""
    changes = {"kernel": parts.source, "guest_kernel": guest_kernel, "qemu": parts.qemu}
    return recipe.model_copy(update={key: value for key, value in changes.items() if value})


def parse_recipe(text: str, *, source: str) -> Recipe:
    """Read a recipe from YAML text; `source` is what messages call it."""
    return _only_document(parse_yaml(text, source=source), source)


def _only_document(documents: list[Document], source: str) -> Recipe:
    if len(documents) != 1:
        raise InputError(f"{source}: a recipe is one YAML document, found {len(documents)}")
    return documents[0].validate(Recipe)


def fingerprint(files: Iterable[Path]) -> str:
    """Return the sha256 over path, size and time of the host's files an image is made of; the empty string for none.

    Contents are left out: a vmlinux with its debug information has a gigabyte, and the question is asked before every
    boot. Whoever writes a file moves its time; a rebuild for nothing costs ten seconds.
    """
    facts = sorted(_fact(path) for path in files)
    return hashlib.sha256("\n".join(facts).encode(errors="surrogateescape")).hexdigest() if facts else ""


def _fact(path: Path) -> str:
    try:
        status = path.stat()
    except OSError as error:
        return f"{path} {error.errno}"
    return f"{path} {status.st_size} {status.st_mtime_ns}"
