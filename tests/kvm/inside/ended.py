"""End a run while its guest boots, and print what is left: `python3 -m tests.kvm.inside.ended INT run …`."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import testbed.cli
from testbed.host.leftovers import orphans, qmp_socket, stale_temp_folders

if TYPE_CHECKING:
    from collections.abc import Sequence

_PATIENCE = 600.0
#: what the kernel needs to end a child whose parent is gone
_GRACE = 10.0


def machines() -> list[int]:
    """Return the process ids of the test bed's machines on this host."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if entry.name.isdecimal() and qmp_socket(words):
            found.append(int(entry.name))
    return found


def until(true: bool, seconds: float) -> None:
    """Wait until there are machines, or none any more; what another process does cannot be awaited."""
    end = time.monotonic() + seconds
    while bool(machines()) is not true and time.monotonic() < end:
        time.sleep(0.1)


def started(arguments: Sequence[str]) -> int:
    """Start the test bed in a child, and return its process id; the modules that it needs are imported already."""
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.argv = ["testbed", *arguments]
        testbed.cli.main()
        sys.exit(0)
    return child


def main(name: str, *arguments: str) -> None:
    """End a run with the signal of that name, and print its exit status and the machines that outlive it."""
    run = started(arguments)
    until(True, _PATIENCE)
    count = len(machines())
    os.kill(run, signal.Signals[f"SIG{name}"])
    status = os.waitstatus_to_exitcode(os.waitpid(run, 0)[1])
    until(False, _GRACE)
    left = {"machines": machines(), "orphans": orphans(), "folders": len(stale_temp_folders())}
    sys.stdout.write(json.dumps({"status": status, "started": count, **left}) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
