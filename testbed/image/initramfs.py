"""The guest's root file system: busybox, the bed's init, a few tools with their libraries, modules.

It is left uncompressed: under TCG (two boots each) zstd made no clear difference, xz cost about a second.
"""

from __future__ import annotations

import stat
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from testbed.host.compiler import FREESTANDING, STATIC, compile_c
from testbed.host.tools import run_tool
from testbed.image.cpio import Entry, Tree, character_device, directory, pack, regular, symlink
from testbed.image.elf import PT_INTERP, segments
from testbed.model.errors import BedError, InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

BUSYBOX = "bin/busybox"
PROBE = "bin/mmio-probe"
FOLDERS = ("dev", "etc", "mnt", "proc", "root", "run", "sys", "var")


def compile_init(sources: Sequence[Path], target: Path) -> None:
    """Compile the guest's process 1 from its C files as a static program."""
    compile_c(sources, target, flags=STATIC, doing=f"compiling {sources[0].name} for the guest")


def compile_probe(source: Path, target: Path) -> None:
    """Compile the MMIO probe: no libc, not relocated, and at addresses where no other program has its code."""
    flags = [*FREESTANDING, "-Wl,-Ttext-segment=0x60000000", "-Wl,--build-id=none"]
    compile_c([source], target, flags=flags, doing=f"compiling {source.name} for the guest")


def pack_initramfs(
    *,
    init: Path,
    probe: Path,
    busybox: Path,
    tools: Sequence[Path],
    modules: Path,
    files: Tree,
    programs: Sequence[Path],
) -> bytes:
    """Return the initramfs as a cpio archive.

    `modules` is a folder with `lib/modules/<release>` in it; `files` are the user's, `programs` where those came from,
    for the libraries they need. Raises InputError for a file that stands where a folder must be.
    """
    replaced = {tool.name for tool in tools}
    tree = skeleton()
    tree |= applet_links(_list_applets(busybox), replaced)
    tree[BUSYBOX] = _program(busybox)
    tree |= {_inside(tool): _program(tool) for tool in tools}
    tree |= {_inside(library): _program(library) for library in find_libraries([busybox, *tools, *programs])}
    tree |= _files_below(modules)
    tree["init"] = _program(init)
    tree[PROBE] = _program(probe)
    check_places(files, tree)
    return pack(tree | files)


def check_places(files: Tree, tree: Tree) -> None:
    """Check that the user's files fit into the guest's tree; raise InputError for a file in a folder's place."""
    whole = tree | files
    folders = {str(parent) for name in whole for parent in PurePosixPath(name).parents}
    folders |= {name for name, entry in tree.items() if stat.S_ISDIR(entry.mode)}
    for name in files:
        if name in folders:
            raise InputError(f"files: /{name} is a folder in the guest", hint="give the path of the file in it")
        above = (str(parent) for parent in PurePosixPath(name).parents)
        if file := next((name for name in above if name in whole and not stat.S_ISDIR(whole[name].mode)), None):
            raise InputError(f"files: /{name} cannot be in the guest: /{file} is a file")


def skeleton() -> Tree:
    """Return the empty folders, and the console that process 1 gets before /dev is mounted."""
    folders: Tree = {name: directory() for name in FOLDERS}
    return folders | {"tmp": directory(0o1777), "dev/console": character_device(5, 1)}


def applet_links(applets: Iterable[str], replaced: Iterable[str] = ()) -> Tree:
    """Return a symlink to busybox for each path of `busybox --list-full`, save those a real tool replaces.

    busybox lists itself too; linking it to itself gives "No working init found" (ELOOP).
    """
    skipped = {"busybox", *replaced}
    names = (applet for applet in applets if PurePosixPath(applet).name not in skipped)
    return {name: symlink(f"/{BUSYBOX}") for name in names}


def _list_applets(busybox: Path) -> list[str]:
    return run_tool([busybox, "--list-full"], doing="listing busybox's applets").decode().split()


def find_libraries(programs: Iterable[Path]) -> list[Path]:
    """Return the shared libraries the programs need, the dynamic loader included; none for static ones."""
    dynamic = [program for program in programs if any(segments(program.read_bytes(), PT_INTERP))]
    found = [
        library
        for program in dynamic
        for library in parse_ldd(run_tool(["ldd", program], doing=f"finding the libraries of {program.name}").decode())
    ]
    return sorted(set(found))


def parse_ldd(text: str) -> list[Path]:
    """Return the files ldd names, by the path the loader will look for; raise BedError for a missing one."""
    libraries = []
    for line in text.splitlines():
        name, _, rest = line.strip().partition(" => ")
        if rest.startswith("not found"):
            raise BedError(f"finding shared libraries: {name} is not on this host")
        path = name if name.startswith("/") else rest
        if path.startswith("/"):
            libraries.append(Path(path.split(" (")[0]))
    return libraries


def _files_below(folder: Path) -> Tree:
    files = (path for path in (folder / "lib").rglob("*") if path.is_file() and not path.is_symlink())
    return {str(path.relative_to(folder)): regular(path.read_bytes()) for path in files}


def _program(path: Path) -> Entry:
    return regular(path.read_bytes(), 0o755)


def _inside(path: Path) -> str:
    return str(path).lstrip("/")
