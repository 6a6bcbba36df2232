"""QEMU's own view of device accesses: its trace events memory_region_ops_read and _write, while it runs.

They come through a FIFO, so that each is stamped when it comes; QEMU's log has no stamps of its own unless it was
started with `-msg timestamp=on`. QEMU must be built with the trace backend `log`, as distributions' are. An access that
is not completed by a device is not there.

Source: QEMU 7.2 to 10.0, softmmu/memory.c (system/memory.c) and trace-events.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import time
from typing import TYPE_CHECKING

from testbed.host.claim import scratch_folder
from testbed.host.containment import admit
from testbed.model.errors import BedError, RefusedError, UnsupportedError
from testbed.model.mmio_record import Direction, MmioRecord, Space

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from testbed.machine.launch import Machine

EVENTS = "memory_region_ops_*"
_LINE = re.compile(
    r"(?:\d{1,10}@\d{1,12}\.\d{6}:)?memory_region_ops_(read|write) cpu (-?\d{1,6}) mr \S{1,20} "
    r"addr 0x([0-9a-f]{1,16}) value 0x([0-9a-f]{1,16}) size (\d{1,3}) name '(.{0,200})'"
)
#: x86 has 64 Ki ports, and no device's memory below 640 KiB
_PORTS = 1 << 16
_LONGEST_LINE = 1 << 12
#: wall seconds in which QEMU stops tracing
_END_SECONDS = 1.0


def parse_event(text: str, *, seconds: float | None = None) -> MmioRecord | None:
    """Return the access that a line of QEMU's log tells of; None if it is another line."""
    match = _LINE.fullmatch(text.strip())
    if match is None:
        return None
    vcpu, address = int(match[2]), int(match[3], 16)
    return MmioRecord(
        seconds=seconds,
        vcpu=vcpu if vcpu >= 0 else None,
        rip=None,
        gpa=address,
        width=int(match[5]),
        value=int(match[4], 16),
        direction=Direction(match[1]),
        region=match[6],
        space=Space.PIO if address < _PORTS else Space.MMIO,
    )


class MmioTrace:
    """The accesses of one machine to some addresses, as they come."""

    def __init__(self, machine: Machine, wanted: Callable[[MmioRecord], bool], descriptor: int) -> None:
        self._machine = machine
        self._wanted = wanted
        self._descriptor = descriptor
        self._rest = b""
        self._begun = time.monotonic()
        #: accesses to those addresses, the first first
        self.records: list[MmioRecord] = []
        #: where each stands in the rundir
        self.evidence: list[str] = []

    def read(self) -> None:
        """Take what QEMU has told so far."""
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self._descriptor, 1 << 16):
                *lines, self._rest = (self._rest + data).split(b"\n")
                self._rest = self._rest[:_LONGEST_LINE]
                for line in lines:
                    self._take(line.decode("utf-8", "replace"))

    def _take(self, line: str) -> None:
        record = parse_event(line, seconds=round(time.monotonic() - self._begun, 6))
        if record is None or not self._wanted(record):
            return
        self.records.append(record)
        what = {"vcpu": record.vcpu, "region": record.region, "text": str(record)}
        self.evidence.append(self._machine.journal.mmio.write("access", what))


@contextlib.asynccontextmanager
async def traced(machine: Machine, wanted: Callable[[MmioRecord], bool]) -> AsyncIterator[MmioTrace]:
    """Trace the accesses that are `wanted`; raise UnsupportedError if this QEMU cannot."""
    with _fifo() as (path, descriptor):
        await _log_to(machine, str(path))
        trace = MmioTrace(machine, wanted, descriptor)
        loop = asyncio.get_running_loop()
        loop.add_reader(descriptor, trace.read)
        try:
            await _set(machine, on=True)
            yield trace
        finally:
            # a machine that has ended cannot be asked, and a QEMU that hangs does not answer
            with contextlib.suppress(BedError, TimeoutError):
                async with asyncio.timeout(_END_SECONDS):
                    await _set(machine, on=False)
                    await _log_to(machine, os.devnull)
            loop.remove_reader(descriptor)
            trace.read()


@contextlib.contextmanager
def _fifo() -> Iterator[tuple[Path, int]]:
    with scratch_folder("mmio") as folder:
        path = folder / "log"
        os.mkfifo(path, 0o600)
        admit(folder)
        admit(path)
        # with a writer of our own it never ends, whatever becomes of QEMU
        descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            yield path, descriptor
        finally:
            os.close(descriptor)


async def _log_to(machine: Machine, path: str) -> None:
    reply = await machine.qmp.execute_unrepeated("human-monitor-command", {"command-line": f"logfile {path}"})
    if str(reply).strip():
        raise UnsupportedError(f"tracing: QEMU does not log to the test bed's file: {str(reply).strip()}")


async def _set(machine: Machine, *, on: bool) -> None:
    try:
        await machine.qmp.execute_unrepeated("trace-event-set-state", {"name": EVENTS, "enable": on})
    except RefusedError as error:
        raise UnsupportedError(
            f"tracing: {error.description}", hint="use a QEMU built with the trace backend log"
        ) from None
