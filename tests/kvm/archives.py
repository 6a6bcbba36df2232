"""What a nested host is made of: a root file system, and beside it the test bed as it stands here, both as squashfs.

The root file system is made by mmdebstrap from the archive that apt is configured with, and holds the packages that the
set-up would install there. It is kept in the cache under what it was asked to be. Neither is compressed: what is read
under TCG is read slowly enough.
"""

from __future__ import annotations

import compileall
import contextlib
import hashlib
import json
import os
import py_compile
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from testbed.host.apt_sources import running_codename, stanzas_for
from testbed.host.cache import cache_folder
from testbed.host.draft import DRAFT
from testbed.host.packages import NEEDS
from testbed.host.tools import run_tool
from testbed.image.store import ensure_image

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from testbed.image.store import Image

TOP = Path(__file__).parent.parent.parent
#: raise it whenever the same wishes would give other archives
FORMAT = 2
#: what a host that only boots has no use for
_LEFT_OUT = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*")
#: what a test bed that is not installed is
_PARTS = ("testbed", "guest-images", "machine-templates", "tests/kvm/inside")
_TESTS = ("pytest", "pytest-asyncio")
#: archives of test beds that are kept: each edit of a source makes another
_KEPT_BEDS = 2


def root_file_system() -> Path:
    """Return the root file system, made if need be: about a minute of one core, and the network."""
    packages = sorted({need.packages["apt-get"] for need in NEEDS if need.name != "python ensurepip"} | {"python3"})
    sources = "\n".join(stanzas_for(None))
    wishes = json.dumps([FORMAT, running_codename(), packages, sources, _LEFT_OUT])
    folder = cache_folder("kvm-host") / hashlib.sha256(wishes.encode()).hexdigest()[:16]
    if not folder.is_dir():
        _draft(folder, lambda draft: _bootstrap(draft, packages, sources))
    return folder / "root.squashfs"


def _bootstrap(draft: Path, packages: list[str], sources: str) -> None:
    left_out = (f"--dpkgopt=path-exclude={pattern}" for pattern in _LEFT_OUT)
    command = ["mmdebstrap", "--quiet", "--variant=minbase", *left_out, f"--include={','.join(packages)}"]
    with tempfile.TemporaryDirectory() as scratch:
        listed, archive = Path(scratch) / "apt.sources", Path(scratch) / "root.tar"
        listed.write_text(sources)
        run_tool([*command, running_codename(), archive, listed], doing="making the nested host's root file system")
        _pack(archive, draft / "root.squashfs")
    (draft / "python").write_text(_python_of(draft / "root.squashfs"))


def site_folder(python: str) -> Path:
    """Return a folder with the Python packages the test bed needs, for that version of Python."""
    needed = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]["dependencies"]
    wishes = json.dumps([FORMAT, python, needed, _TESTS])
    folder = cache_folder("kvm-host") / f"site-{hashlib.sha256(wishes.encode()).hexdigest()[:16]}"
    if not folder.is_dir():
        _draft(folder, lambda draft: _install(draft, python, [*needed, *_TESTS]))
    return folder


def _install(draft: Path, python: str, packages: list[str]) -> None:
    pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-input"]
    wheels = ["--target", str(draft), "--python-version", python, "--only-binary", ":all:"]
    subprocess.run([*pip, *wheels, *packages], check=True)


def _draft(place: Path, make: Callable[[Path], None]) -> None:
    """Make a folder aside and move it into its place; of two who do so at once one is lost."""
    draft = place.with_name(f"{DRAFT}{place.name}-{os.getpid()}")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    try:
        make(draft)
        with contextlib.suppress(OSError):
            draft.rename(place)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def python_of(root: Path) -> str:
    """Return the version of the Python in a root file system, such as `3.11`."""
    return root.with_name("python").read_text()


def _python_of(root: Path) -> str:
    listing = run_tool(["unsquashfs", "-lc", root, "usr/bin"], doing="looking for Python").decode()
    version = re.search(r"/usr/bin/python(3\.\d+)$", listing, re.MULTILINE)
    assert version, "Python is one of the packages"
    return version[1]


def bed(site: Path, homes: Mapping[str, int]) -> Path:
    """Return the file system of the test bed, made if need be: its sources, the packages, homes with its guests' image.

    `homes` are folders and whose they are.
    """
    image = ensure_image("debian", progress=lambda _: None)
    wishes = json.dumps([FORMAT, _sources(), site.name, sorted(homes.items()), image.id])
    folder = cache_folder("kvm-host") / f"bed-{hashlib.sha256(wishes.encode()).hexdigest()[:16]}"
    if not folder.is_dir():
        _remove_older("bed-*", _KEPT_BEDS - 1)
        _draft(folder, lambda draft: _write_bed(draft / "bed.squashfs", site, homes, image))
    return folder / "bed.squashfs"


def _sources() -> list[tuple[str, str]]:
    """Return every file of the test bed with its content's hash."""
    files = sorted(path for part in _PARTS for path in (TOP / part).rglob("*") if path.is_file())
    own = [path for path in files if path.suffix != ".pyc"]
    return [(str(path.relative_to(TOP)), hashlib.sha256(path.read_bytes()).hexdigest()) for path in own]


def _remove_older(pattern: str, kept: int) -> None:
    folders = sorted(cache_folder("kvm-host").glob(pattern), key=lambda path: path.stat().st_mtime)
    for folder in folders[: len(folders) - kept]:
        shutil.rmtree(folder, ignore_errors=True)


def _write_bed(target: Path, site: Path, homes: Mapping[str, int], image: Image) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        path, sources = Path(scratch) / "bed.tar", Path(scratch) / "bed"
        for part in _PARTS:
            shutil.copytree(TOP / part, sources / part, ignore=shutil.ignore_patterns("__pycache__"))
        # under TCG that takes a minute
        compileall.compile_dir(sources, quiet=2, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
        with tarfile.open(path, "w") as archive:
            archive.add(sources, arcname="bed", filter=partial(_owned, uid=0))
            archive.add(site, arcname="bed/site", filter=partial(_owned, uid=0))
            for home, uid in homes.items():
                _add_home(archive, home, uid, image)
        _pack(path, target)


def _add_home(archive: tarfile.TarFile, home: str, uid: int, image: Image) -> None:
    folders = [home, f"{home}/.cache", f"{home}/.cache/testbed", f"{home}/.cache/testbed/images"]
    for folder in folders:
        member = tarfile.TarInfo(folder)
        member.type, member.mode = tarfile.DIRTYPE, 0o700
        archive.addfile(_owned(member, uid=uid))
    # what is there twice takes its room once
    archive.add(image.folder.parent, arcname=f"{folders[-1]}/{image.key}", filter=partial(_owned, uid=uid))


def _owned(member: tarfile.TarInfo, *, uid: int) -> tarfile.TarInfo:
    member.uid = member.gid = uid
    return member


def _pack(archive: Path, target: Path) -> None:
    plain = ["-noI", "-noD", "-noF", "-noX", "-no-progress", "-quiet"]
    with archive.open("rb") as content:
        subprocess.run(["sqfstar", *plain, target], stdin=content, check=True)
