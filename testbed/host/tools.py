"""A host tool: a short-lived program of the host, run to its end."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from testbed.host.packages import NEEDS, find_program, install_line, search_path
from testbed.model.errors import BedError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: how much of a tool's last words an error message quotes
STDERR_LINES = 5


def find_tool(program: str) -> Path:
    """Return where a program lies; raise BedError naming it and the package that brings it."""
    found = find_program(program)
    if found is None:
        needs = [need for need in NEEDS if need.name == program]
        hint = install_line(needs) if needs else f"install the package that provides {program}"
        raise BedError(f"running {program}: not found on this host", hint=hint)
    return Path(found)


def run_tool(
    argv: Sequence[str | Path],
    *,
    doing: str,
    cwd: Path | None = None,
    stdin: bytes | None = None,
    env: Mapping[str, str] | None = None,
    quote_output: bool = False,
) -> bytes:
    """Run a host program to its end and return its standard output.

    Of one that fails its last errors are quoted; with `quote_output` what it printed before them too.

    Its messages are in English (LC_ALL=C). It stays in the bed's process group, so Ctrl-C ends it too, and it
    dies with the bed where setpriv exists: an orphan must not write into a folder that the next bed sweeps.

    Raises:
        BedError: the program is missing, or ended with an error; `doing` begins the message.
    """
    program, *arguments = argv
    command = [*_dying_with_the_bed(), find_tool(str(program)), *arguments]
    variables = {**os.environ, "PATH": search_path(), "LC_ALL": "C", **(env or {})}
    done = subprocess.run(command, cwd=cwd, input=stdin or b"", env=variables, capture_output=True, check=False)
    if done.returncode != 0:
        name = Path(program).name
        said = (done.stdout if quote_output else b"") + done.stderr
        raise BedError(f"{doing}: {name} ended with {_how(done.returncode)}: {_last_words(said)}")
    return done.stdout


def _dying_with_the_bed() -> list[str]:
    setpriv = find_program("setpriv")
    return [setpriv, "--pdeathsig", "KILL", "--"] if setpriv else []


def _how(returncode: int) -> str:
    return f"status {returncode}" if returncode > 0 else f"signal {-returncode}"


def _last_words(stderr: bytes) -> str:
    lines = stderr.decode(errors="replace").strip().splitlines()
    return "\n".join(lines[-STDERR_LINES:]) or "it printed nothing"
