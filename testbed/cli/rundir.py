"""The folder in which a command leaves what it did."""

from __future__ import annotations

import datetime
import os
from pathlib import Path
from typing import Annotated

import typer

from testbed.model.errors import InputError

Rundir = Annotated[Path, typer.Option(help="Where runs leave their logs.")]


def new_rundir(base: Path) -> Path:
    """Make a folder below `base`, named after the time; raise InputError if it cannot be made."""
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    folder = base / f"{stamp}-{os.getpid()}"
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise InputError(f"rundir {folder}: {error.strerror}", hint="name another folder with --rundir") from None
    return folder.resolve()
