"""The host's C compiler, for the programs that guests run."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING

from testbed.host.tools import run_tool

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_WARNINGS = ("-Wall", "-Wextra", "-Werror")
#: of a program that runs where there is no libc
STATIC = ("-static", "-Os", "-s", *_WARNINGS)
FREESTANDING = (
    "-static",
    "-nostdlib",
    "-ffreestanding",
    "-fno-pie",
    "-no-pie",
    "-fno-stack-protector",
    "-O2",
    *_WARNINGS,
)


def compile_c(sources: Sequence[Path], target: Path, *, flags: Sequence[str], doing: str) -> None:
    """Compile with $CC, or gcc; the intermediate files of one that is killed lie beside the target.

    Raises:
        BedError: it is missing, or failed; `doing` begins the message.
    """
    compiler = shlex.split(os.environ.get("CC", "gcc"))
    run_tool([*compiler, *flags, "-o", target, *sources], doing=doing, env={"TMPDIR": str(target.parent)})
