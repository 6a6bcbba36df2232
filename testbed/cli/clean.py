"""`testbed clean`: remove what the test bed left, and nothing else."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from testbed.cli.terminal import err, out
from testbed.host.cache import cache_folder
from testbed.host.leftovers import old_rundirs, size_of, stale_temp_folders
from testbed.host.qemu_store import fetched_qemus, remove_fetched
from testbed.image.store import list_images, remove_image
from testbed.model.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

#: folders of the cache whose files are made again when they are missed, and that nobody locks
_MADE_AGAIN = ("canary", "disks", "kvm")


@dataclass(frozen=True, kw_only=True)
class _Doomed:
    """One thing to remove."""

    what: str
    path: Path
    remove: Callable[[], object]


def clean(
    runs: Annotated[bool, typer.Option("--runs", help="Also remove the logs of finished runs.")] = False,
    images: Annotated[
        bool, typer.Option("--images", help="Also remove built images, fetched QEMUs and the rest of the cache.")
    ] = False,
    rundir: Annotated[Path, typer.Option(help="Where runs left their logs, for --runs.")] = Path("testbed-runs"),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would be removed.")] = False,
) -> None:
    """Remove temporary folders left by killed test beds; with options also logs and images.

    Only what carries the test bed's own mark is touched, and nothing that is in use.
    """
    doomed = [
        *(_folder("temporary folder", folder) for folder in stale_temp_folders()),
        *(_rundirs(rundir) if runs else ()),
        *(_cached() if images else ()),
    ]
    if not _remove(doomed, dry_run=dry_run):
        raise typer.Exit(1)


def _folder(what: str, path: Path) -> _Doomed:
    return _Doomed(what=what, path=path, remove=partial(shutil.rmtree, path))


def _rundirs(base: Path) -> list[_Doomed]:
    if base.is_symlink():
        raise InputError(f"{base}: is a symlink", hint=f"name the folder itself: --rundir {base.resolve()}")
    return [_folder("run", folder) for folder in old_rundirs(base)]


def _cached() -> list[_Doomed]:
    built = [
        _Doomed(what=f"image {image.name}", path=image.folder.parent, remove=partial(remove_image, image.name))
        for image in list_images()
    ]
    fetched = [
        _Doomed(what=f"QEMU {name}", path=each.prefix.root, remove=partial(remove_fetched, name))
        for name, each in fetched_qemus().items()
    ]
    rest = [_folder("cache", cache_folder(name)) for name in _MADE_AGAIN]
    return [*built, *fetched, *rest]


def _remove(doomed: Sequence[_Doomed], *, dry_run: bool) -> bool:
    """Remove, or only list, and say how much; return whether all of it could be."""
    total, count = 0, 0
    # measured before anything goes: one removal may take several of a name
    sizes = [size_of(each.path) for each in doomed]
    for each, size in zip(doomed, sizes, strict=True):
        try:
            if not dry_run:
                each.remove()
        except OSError as error:
            err.print(f"[red]{escape(str(each.path))}[/red]: {escape(str(error))}", highlight=False, soft_wrap=True)
            continue
        total, count = total + size, count + 1
        out.print(escape(f"{each.what} {each.path}: {_amount(size)}"), highlight=False, soft_wrap=True)
    verb = "would be removed" if dry_run else "removed"
    out.print(f"{count} {verb}, {_amount(total)}" if doomed else "nothing to remove", highlight=False)
    return count == len(doomed)


def _amount(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 50_000 else f"{size / 1e3:.0f} kB"
