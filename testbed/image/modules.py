"""A kernel's loadable modules: which files a wish list comes to, and a tree of just those."""

from __future__ import annotations

import gzip
import lzma
import re
import shutil
import zlib
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from testbed.host.tools import find_tool, run_tool
from testbed.image.elf import elf_machine, is_elf64
from testbed.model.errors import BedError, InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

#: what depmod and modprobe read beside the modules themselves
LISTS = ("modules.order", "modules.builtin", "modules.builtin.modinfo")
#: what the kernel compares with its own release when it loads a module
VERMAGIC = re.compile(rb"\0vermagic=([!-~]+)")
#: scripts/sign-file.c; what is stripped loses its signature
SIGNATURE = b"~Module signature appended~\n"


@dataclass(frozen=True, kw_only=True)
class ModuleIndex:
    """depmod's tables, by module name (with `_`, never `-`)."""

    files: Mapping[str, str]  #: module -> its file below lib/modules/RELEASE
    depends: Mapping[str, tuple[str, ...]]  #: module -> modules it links against, all the way down
    before: Mapping[str, tuple[str, ...]]  #: module -> modules or aliases of its `softdep … pre:`
    aliases: Mapping[str, tuple[str, ...]]  #: alias without wildcards -> modules
    builtin: frozenset[str]  #: modules linked into the kernel


@dataclass(frozen=True, kw_only=True)
class ModuleSet:
    """What a wish list of modules came to."""

    names: tuple[str, ...]  #: the loadable modules, dependencies included, sorted
    absent: tuple[str, ...]  #: wanted, but neither loadable nor built in


def module_name(path: str) -> str:
    """Return the module's name for a path such as `kernel/drivers/net/virtio-net.ko.xz`."""
    return canonical(PurePosixPath(path).name.split(".ko")[0])


def canonical(name: str) -> str:
    """Return a module's name as the kernel spells it."""
    return name.replace("-", "_")


#: depmod's tables that say what a wish list comes to
TABLES = ("modules.dep", "modules.softdep", "modules.alias", *LISTS)


def read_index(folder: Path) -> ModuleIndex:
    """Read the tables of `<base>/lib/modules/<release>`, running depmod first if the package has none."""
    if not (folder / "modules.dep").exists():
        _depmod(folder)
    try:
        return _read_tables(folder)
    except ValueError:
        place = (folder / "modules.dep").resolve().parent  # not the folder of links to it
        raise InputError(
            f"reading modules in {place}: depmod's tables are garbled", hint="install them again"
        ) from None


def _read_tables(folder: Path) -> ModuleIndex:
    dependencies = dict(line.split(":", 1) for line in _lines(folder / "modules.dep"))
    return ModuleIndex(
        files={module_name(path): path for path in dependencies},
        depends={module_name(path): tuple(map(module_name, rest.split())) for path, rest in dependencies.items()},
        before=dict(_softdep(line) for line in _lines(folder / "modules.softdep", "softdep ")),
        aliases=_aliases(_lines(folder / "modules.alias", "alias ")),
        builtin=frozenset(module_name(line) for line in _lines(folder / "modules.builtin")),
    )


def _lines(path: Path, start: str = "") -> list[str]:
    """Return the lines of one of depmod's tables that begin with `start`; none if the file is missing."""
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8", errors="replace")
    return [line for line in text.splitlines() if line.startswith(start)]


def _softdep(line: str) -> tuple[str, tuple[str, ...]]:
    """Read `softdep NAME pre: A B post: C`; only what must be there first is taken."""
    _, name, *words = line.split()
    before: list[str] = []
    taking = False
    for word in words:
        if word.endswith(":"):
            taking = word == "pre:"
        elif taking:
            before.append(canonical(word))
    return canonical(name), tuple(before)


def _aliases(lines: Iterable[str]) -> dict[str, tuple[str, ...]]:
    aliases: dict[str, tuple[str, ...]] = {}
    for line in lines:
        _, alias, module = line.split()
        aliases[canonical(alias)] = (*aliases.get(canonical(alias), ()), canonical(module))
    return aliases


def find_closure(index: ModuleIndex, wanted: Sequence[str]) -> ModuleSet:
    """Return the loadable modules that `wanted` comes to, soft dependencies included."""
    names: set[str] = set()
    waiting = [canonical(name) for name in wanted]
    while waiting:
        name = waiting.pop()
        if name in index.files and name not in names:
            names.add(name)
            waiting += index.depends[name]
            for soft in index.before.get(name, ()):
                waiting += index.aliases.get(soft, (soft,))
    absent = [name for name in wanted if canonical(name) not in index.builtin | index.files.keys()]
    return ModuleSet(names=tuple(sorted(names)), absent=tuple(absent))


def stage_modules(source: Path, wanted: Sequence[str], stage: Path) -> ModuleSet:
    """Copy what `wanted` comes to from `<base>/lib/modules/<release>` into a tree of its own below `stage`.

    The copies are plain `.ko` files with depmod's tables beside them, at `stage/lib/modules/<release>`.

    Raises:
        InputError: a module is damaged, or is another kernel's.
    """
    index = read_index(source)
    closure = find_closure(index, wanted)
    target = stage / "lib" / "modules" / source.name
    target.mkdir(parents=True)
    for name in closure.names:
        _copy_plain(source / index.files[name], target / index.files[name], source.name)
    for name in LISTS:
        if (source / name).exists():
            shutil.copyfile(source / name, target / name)
    _depmod(target)
    return closure


def _copy_plain(source: Path, target: Path, release: str) -> None:
    target = target.with_name(target.name.split(".ko")[0] + ".ko")
    target.parent.mkdir(parents=True, exist_ok=True)
    content = _plain(source)
    _check(content, source.resolve(), release)
    target.write_bytes(content)
    if b".debug_info" in content and not content.endswith(SIGNATURE):
        # a build tree's igb.ko has ten times its size in debug information
        run_tool(["strip", "--strip-debug", target], doing=f"stripping module {target.name}")


def _check(content: bytes, path: Path, release: str) -> None:
    """Check that a module can be loaded by the kernel of this release; raise InputError if it cannot."""
    if elf_machine(content) is None:
        raise InputError(f"reading module {path}: it is damaged or not a module")
    if not is_elf64(content):
        raise InputError(f"reading module {path}: it is not for 64-bit x86")
    magic = VERMAGIC.search(b"\0" + content)
    if magic and magic[1].decode() != release:
        raise InputError(
            f"reading module {path}: it is for kernel {magic[1].decode()}, not for {release}",
            hint="give the modules of the same build as the kernel",
        )


def _plain(path: Path) -> bytes:
    """Return a module uncompressed; raise InputError if it is missing or damaged."""
    if path.suffix == ".zst":
        find_tool("zstd")  # a missing program is the host's fault, not the module's
    try:
        return _decompress(path, path.read_bytes())
    except (BedError, OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise InputError(
            f"reading module {path.resolve()}: {error}", hint="install the kernel's modules again"
        ) from None


def _decompress(path: Path, content: bytes) -> bytes:
    if path.suffix == ".xz":
        return lzma.decompress(content)
    if path.suffix == ".gz":
        return gzip.decompress(content)
    if path.suffix == ".zst":
        return run_tool(["zstd", "-d", "-c", "-q"], doing=f"decompressing module {path.name}", stdin=content)
    return content


def _depmod(folder: Path) -> None:
    base, release = folder.parents[2], folder.name
    _let_usr_lib_be_lib(base)
    run_tool(["depmod", "-b", base, release], doing=f"indexing the modules of {release}")


def _let_usr_lib_be_lib(base: Path) -> None:
    # depmod of a distribution without /lib looks below usr/lib
    if not (base / "usr").exists():
        (base / "usr").symlink_to(".")
