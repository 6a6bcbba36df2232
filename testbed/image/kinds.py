"""The kinds of kernel source, as they are written in a recipe's `kernel:` and after `--image`.

What makes a source of a kind is imported when one is made.
"""
# ruff: noqa: PLC0415

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from testbed.image.disk import disk_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from testbed.image.source import KernelSource


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind: what must follow its name and a colon, and who makes a source of it."""

    form: str  #: for people
    pattern: str
    make: Callable[[re.Match[str]], KernelSource]
    paths: int | None = None  #: how many of the words between commas are paths; None: all


def _host(_: re.Match[str]) -> KernelSource:
    from testbed.image.path_kernel import HostKernel

    return HostKernel()


def _path(match: re.Match[str]) -> KernelSource:
    from testbed.image.path_kernel import PathKernel

    kernel, *modules = _paths(match)
    return PathKernel(kernel=kernel, modules=next(iter(modules), None))


def _package(match: re.Match[str], format_: Literal["deb", "rpm"]) -> KernelSource:
    from testbed.image.package_kernel import PackageKernel

    return PackageKernel(format=format_, files=_paths(match))


def _apt(match: re.Match[str]) -> KernelSource:
    from testbed.image.apt import AptKernel

    return AptKernel(package=match["package"], suite=match["suite"])


def _disk(match: re.Match[str]) -> KernelSource:
    from testbed.image.disk.disk_kernel import DiskKernel

    return DiskKernel(disk=disk_name.read_disk_name(f"{disk_name.KIND}{match[0]}"))


KINDS = {
    "host": Kind(form="host", pattern=r"", make=_host, paths=0),
    "path": Kind(
        form="path:KERNEL[,MODULES]",
        pattern=r":[^,]+(,[^,]+)?",
        make=_path,
    ),
    "deb": Kind(
        form="deb:FILE[,FILE...]",
        pattern=r":[^,]+(,[^,]+)*",
        make=partial(_package, format_="deb"),
    ),
    "rpm": Kind(
        form="rpm:FILE[,FILE...]",
        pattern=r":[^,]+(,[^,]+)*",
        make=partial(_package, format_="rpm"),
    ),
    "apt": Kind(
        form="apt:PACKAGE[@SUITE], where SUITE may hold {codename}",
        pattern=r":(?P<package>[a-z0-9][a-z0-9+.-]+)(@(?P<suite>([A-Za-z0-9._/-]|\{codename\})+))?",
        make=_apt,
        paths=0,
    ),
    disk_name.KIND: Kind(
        form=disk_name.FORM,
        pattern=disk_name.PATTERN,
        make=_disk,
        paths=1,
    ),
}


def is_source(text: str) -> bool:
    """Tell whether a text is meant as a kernel source."""
    kind, colon, _ = text.partition(":")
    return kind in KINDS and (bool(colon) or text == "host")


def make_source(text: str) -> KernelSource:
    """Return the source that a text describes; raise ValueError, saying what is wanted, if it describes none."""
    kind, match = _match(text)
    return kind.make(match)


def absolute_source(text: str, base: Path) -> str:
    """Return a source's text with its paths made absolute; relative ones begin at `base`, `~` is the home folder."""
    kind, match = _match(text)
    if kind.paths == 0:
        return text
    words = match[0][1:].split(",")
    words[: kind.paths] = (absolute_path(word, base) for word in words[: kind.paths])
    return f"{text.partition(':')[0]}:{','.join(words)}"


def absolute_path(path: str, base: Path) -> str:
    """Return a path made absolute; a relative one begins at `base`, `~` is the home folder, links stay links."""
    return os.path.abspath(base / os.path.expanduser(path))  # noqa: PTH100, PTH111 (Path's follow links, and may raise)


def _match(text: str) -> tuple[Kind, re.Match[str]]:
    name = text.partition(":")[0]
    if name in KINDS and (match := re.fullmatch(KINDS[name].pattern, text.removeprefix(name))):
        return KINDS[name], match
    raise ValueError(f"wanted {', '.join(kind.form for kind in KINDS.values())}")


def _paths(match: re.Match[str]) -> tuple[Path, ...]:
    return tuple(Path(path) for path in match[0][1:].split(","))
