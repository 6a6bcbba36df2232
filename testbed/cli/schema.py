"""`testbed schema`: what the JSON of a command looks like."""

from __future__ import annotations

from typing import Annotated

import typer

from testbed.cli.terminal import plain
from testbed.report.json_file import schema as schema_of


def schema(
    command: Annotated[
        str, typer.Argument(metavar="run|compare|bisect|matrix|atlas", help="The command whose --json to describe.")
    ] = "run",
) -> None:
    """Print the JSON Schema of what `run`, `compare`, `bisect`, `matrix` or `atlas` writes with --json."""
    plain(schema_of(command).rstrip())
