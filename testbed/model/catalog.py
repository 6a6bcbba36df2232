"""Where templates, image recipes, scenarios and cases are found by name.

The shipped ones stand at the top level of a checkout and inside the wheel (`testbed/data/`).
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from testbed.model.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable

_PACKAGE = Path(__file__).resolve().parent.parent


def shipped_folder(name: str) -> Path:
    """Return the folder `name` (`machine-templates`, `guest-images`) of the wheel or of the checkout."""
    packaged = _PACKAGE / "data" / name
    return packaged if packaged.is_dir() else _PACKAGE.parent / name


@dataclass(frozen=True, kw_only=True)
class Shelf:
    """One kind of named file: what it is called, where it lies, and how its names end."""

    kind: str
    folder: Path
    suffix: str

    def names(self) -> list[str]:
        """Return every name on the shelf, sorted."""
        return sorted(path.name.removesuffix(self.suffix) for path in self.folder.glob(f"*{self.suffix}"))

    def find(self, name: str) -> Path:
        """Return the file called `name`; raise InputError with the names there are."""
        if name not in self.names():
            raise unknown(self.kind, name, self.names())
        return self.folder / f"{name}{self.suffix}"


def unknown(kind: str, name: str, known: Iterable[str]) -> InputError:
    """Build the error for a name that does not exist, with the closest one first."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    guess = f"did you mean {close[0]}? " if close else ""
    return InputError(f"{kind} {name!r} does not exist", hint=f"{guess}there are: {', '.join(names) or 'none'}")


TEMPLATES = Shelf(kind="machine template", folder=shipped_folder("machine-templates"), suffix=".yaml.j2")
RECIPES = Shelf(kind="image recipe", folder=shipped_folder("guest-images"), suffix=".yaml")
CASES = Shelf(kind="case", folder=_PACKAGE / "cases", suffix=".yaml")
