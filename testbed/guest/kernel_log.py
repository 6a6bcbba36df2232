"""The guest's kernel log of record: /dev/kmsg as it happens, in `kernel.log` and in memory."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING

from testbed.model.kernel_log import LogRecord, parse_record

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from testbed.machine.watch import Watch

FILE = "kernel.log"
#: records kept in memory; the file keeps them all
_KEPT = 50_000


class KernelLog:
    """Every record the guest has sent so far."""

    def __init__(self, rundir: Path, watch: Watch) -> None:
        self._file = (rundir / FILE).open("w", encoding="utf-8")
        self._watch = watch
        self._lines = 0
        self.records: list[LogRecord] = []

    def close(self) -> None:
        """Close the file."""
        with contextlib.suppress(OSError):  # what a full disk does not take was told when it was written
            self._file.close()

    def feed(self, payload: bytes) -> None:
        """Take the raw records of one frame."""
        for text in payload.decode("utf-8", "replace").split("\n"):
            record = parse_record(text, line=self._lines + 1)
            if record is not None:
                self._keep(record)
                self._watch.read_line(record.text, evidence=record.reference)
        self._file.flush()
        del self.records[:-_KEPT]

    def adopt(self, records: Iterable[LogRecord]) -> None:
        """Take the records that a saved guest had sent before it was saved."""
        for record in records:
            self._keep(record)
        self._file.flush()

    def restart(self) -> None:
        """Forget the records, for a kernel that boots anew and numbers its own from 0; the file continues."""
        self.records.clear()

    def _keep(self, record: LogRecord) -> None:
        self._lines += 1
        # one line each, or every later reference would be wrong
        self._file.write(str(record).replace("\r", "\\r").replace("\n", "\\n") + "\n")
        self.records.append(record)

    @property
    def lines(self) -> int:
        """Return how many lines the file has."""
        return self._lines

    @property
    def latest(self) -> int:
        """Return the sequence number of the latest record; -1 before the first."""
        return self.records[-1].sequence if self.records else -1

    def find(self, pattern: str, *, after: int = -1) -> list[LogRecord]:
        """Return the records after the one numbered `after` in which `pattern` (a regular expression) is found.

        Numbers, not times: in warped time the kernel's own stamps and CLOCK_MONOTONIC run apart by seconds.
        """
        wanted = re.compile(pattern)
        return [record for record in self.records if record.sequence > after and wanted.search(record.text)]
