"""End a run of the test bed while its guest boots, and print what is left: `python3 -m tests.kvm.ended INT run …`."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

from testbed.host.leftovers import orphans, qmp_socket, stale_temp_folders

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


def main(name: str, *arguments: str) -> None:
    """End a run with the signal of that name, and print its exit status and the machines that outlive it."""
    with subprocess.Popen([sys.executable, "-m", "testbed", *arguments], stdout=subprocess.DEVNULL) as run:
        until(True, _PATIENCE)
        started = len(machines())
        run.send_signal(signal.Signals[f"SIG{name}"])
        status = run.wait(_PATIENCE)
    until(False, _GRACE)
    left = {"machines": machines(), "orphans": orphans(), "folders": len(stale_temp_folders())}
    sys.stdout.write(json.dumps({"status": status, "started": started, **left}) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
