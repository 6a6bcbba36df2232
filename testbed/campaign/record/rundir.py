"""Rundir: what a run left on the disk, read again."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from testbed.model.errors import InputError
from testbed.model.json_reader import parse_json
from testbed.model.outcome import SCHEMA_VERSION, Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable

OUTCOME = "outcome.json"
REPORT = "report.json"
#: the machine as rendered; written before anything of a cell is started
DESCRIPTION = "machine.yaml"


def read_outcome(folder: Path) -> Outcome:
    """Return the outcome of a cell's rundir, which may have been moved; raise InputError if it has none that fits."""
    path = folder / OUTCOME
    try:
        value = parse_json(path.read_text(encoding="utf-8"))
        outcome = Outcome.model_validate(value)
    except FileNotFoundError:
        raise _none(folder) from None
    except OSError as error:
        raise InputError(f"rundir {folder}: reading {OUTCOME}: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the whole"
        raise InputError(
            f"rundir {folder}: {OUTCOME} does not fit this test bed's schema {SCHEMA_VERSION}: {where}: {first['msg']}",
            hint="read it with the version that wrote it, or run the cell again",
        ) from None
    except ValueError as error:
        raise InputError(f"rundir {folder}: {OUTCOME} is not JSON: {error}", hint="run the cell again") from None
    return outcome.model_copy(update={"rundir": str(folder.resolve())})


def read_case(folder: Path) -> str | None:
    """Return the case whose cells a run left in this folder; None if they are of no case, or if it did not end.

    Raises InputError if the folder's report is of another schema.
    """
    try:
        report = parse_json((folder / REPORT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    fields: dict[str, Any] = report if isinstance(report, dict) else {}
    schema = fields.get("schema")
    if schema != SCHEMA_VERSION:
        raise InputError(
            f"rundir {folder}: {REPORT} is of schema {schema}, this test bed reads schema {SCHEMA_VERSION}",
            hint="read it with the version that wrote it",
        )
    return fields.get("case")


def find_cells(paths: Iterable[Path]) -> list[Path]:
    """Return the rundirs of all finished cells at and below these folders, each once.

    Raises InputError for a folder without any, saying whether one was begun.
    """
    found: dict[Path, None] = {}
    for path in paths:
        below = _cells_below(path)
        if not below:
            raise _none(path)
        found |= dict.fromkeys(below)
    return list(found)


def unfinished_cells(paths: Iterable[Path]) -> list[Path]:
    """Return the rundirs at and below these folders of cells that were begun and have no outcome."""
    begun = (Path(folder) for path in paths for folder, _, files in os.walk(path) if DESCRIPTION in files)
    return sorted(folder for folder in begun if not (folder / OUTCOME).exists())


def _cells_below(path: Path) -> list[Path]:
    found = []
    for folder, below, files in os.walk(path):
        below.sort()
        if OUTCOME in files:
            found.append(Path(folder).resolve())
            below.clear()
    return found


def _none(folder: Path) -> InputError:
    if not folder.is_dir():
        return InputError(f"rundir {folder}: no such folder", hint="`testbed run` prints where it leaves its logs")
    if begun := unfinished_cells([folder]):
        return InputError(
            f"rundir {begun[0]}: {OUTCOME} is missing: the run is still going, or ended before this cell did",
            hint="run the cell again",
        )
    return InputError(
        f"rundir {folder}: is not a rundir (no {OUTCOME} found)", hint="`testbed run` prints where it leaves its logs"
    )
