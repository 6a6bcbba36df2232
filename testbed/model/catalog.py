"""Where templates, image recipes, scenarios and cases are found by name.

The shipped ones stand at the top level of a checkout and inside the wheel (`testbed/data/`). A user's own stand in
folders of the same names (`machine-templates/`, `guest-images/`, `scenarios/`, `cases/`) below the folders given by
`--path` and TESTBED_PATH; or are named by their path.
"""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from testbed.model.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable

_PACKAGE = Path(__file__).resolve().parent.parent


_added: list[Path] = []


def add_path(folder: Path) -> None:
    """Look for templates, recipes, scenarios and cases in this folder too; raise InputError if it is not one."""
    if not folder.is_dir():
        raise InputError(f"--path {folder}: no such folder")
    if folder not in _added:
        _added.append(folder)


def search_path() -> list[Path]:
    """Return the user's folders: those added, then those of TESTBED_PATH (separated by colons)."""
    named = [Path(folder) for folder in os.environ.get("TESTBED_PATH", "").split(os.pathsep) if folder]
    for folder in named:
        if not folder.is_dir():
            raise InputError(f"TESTBED_PATH: {folder}: no such folder")
    return [*_added, *named]


def shipped_folder(name: str) -> Path:
    """Return the folder `name` (`machine-templates`, `guest-images`) of the wheel or of the checkout."""
    packaged = _PACKAGE / "data" / name
    return packaged if packaged.is_dir() else _PACKAGE.parent / name


@dataclass(frozen=True, kw_only=True)
class Shelf:
    """One kind of named file: what it is called, where it lies, and how its names end."""

    kind: str
    shipped: Path
    folder: str  #: the folder of this kind in a folder of the user's
    suffix: str
    flat: bool = False  #: also found in the user's folder itself: the suffix alone tells what it is

    def paths(self) -> dict[str, Path]:
        """Return every file by its name, sorted; the user's go before the shipped ones."""
        found: dict[str, Path] = {}
        for folder in self._folders():
            for path in folder.glob(f"*{self.suffix}"):
                found.setdefault(path.name.removesuffix(self.suffix), path)
        return dict(sorted(found.items()))

    def names(self) -> list[str]:
        """Return every name, sorted."""
        return list(self.paths())

    def find(self, name: str) -> Path:
        """Return the file of this name, or the file itself if a path is given; raise InputError if there is none."""
        paths = self.paths()
        if name in paths:
            return paths[name]
        if is_path(name, self.suffix):
            return existing(Path(name), self.kind)
        raise unknown(self.kind, name, paths)

    def _folders(self) -> list[Path]:
        users = [folder / self.folder for folder in search_path()]
        return [*users, *(search_path() if self.flat else []), self.shipped]


def is_path(name: str, suffix: str) -> bool:
    """Return whether a name is meant as a file's path."""
    return name.endswith(suffix) or "/" in name


def existing(path: Path, kind: str) -> Path:
    """Return a path that is a file; raise InputError if it is not."""
    try:
        found = path.is_file()
    except OSError as error:  # a name that no file can have
        raise InputError(f"{kind} {path}: {error.strerror}") from None
    if not found:
        raise InputError(f"{kind} {path}: no such file")
    return path


def unknown(kind: str, name: str, known: Iterable[str]) -> InputError:
    """Build the error for a name that does not exist, with the closest one first."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    guess = f"did you mean {close[0]}? " if close else ""
    return InputError(f"{kind} {name!r} does not exist", hint=f"{guess}there are: {', '.join(names) or 'none'}")


TEMPLATES = Shelf(
    kind="machine template",
    shipped=shipped_folder("machine-templates"),
    folder="machine-templates",
    suffix=".yaml.j2",
    flat=True,
)
RECIPES = Shelf(kind="image recipe", shipped=shipped_folder("guest-images"), folder="guest-images", suffix=".yaml")
CASES = Shelf(kind="case", shipped=_PACKAGE / "cases", folder="cases", suffix=".yaml")
SCENARIOS = Shelf(kind="scenario", shipped=_PACKAGE / "scenarios", folder="scenarios", suffix=".py")
#: scenarios written as steps
STEPS = Shelf(kind="scenario", shipped=_PACKAGE / "scenarios", folder="scenarios", suffix=".yaml")
