"""The kernel's own counts of PCIe errors: of a function, and of what its root port was told.

Source: Linux drivers/pci/pcie/aer.c, `aer_dev_*` and `aer_rootport_total_err_*` in a function's folder, 4.19 and later.
One report counts each status bit once, however many messages came.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from testbed.guest.files import show
from testbed.model.aer import ErrorSeverity
from testbed.model.outcome import Finding

if TYPE_CHECKING:
    from collections.abc import Mapping

    from testbed.guest.error_path import ErrorPath
    from testbed.guest.guest import Guest
    from testbed.model.aer import AerError
    from testbed.model.pci import Bdf

_FILES = {
    ErrorSeverity.CORRECTABLE: ("aer_dev_correctable", "aer_rootport_total_err_cor"),
    ErrorSeverity.NON_FATAL: ("aer_dev_nonfatal", "aer_rootport_total_err_nonfatal"),
    ErrorSeverity.FATAL: ("aer_dev_fatal", "aer_rootport_total_err_fatal"),
}


#: of 64 bits
_NUMBER = re.compile(r"[0-9]{1,20}")


@dataclass(frozen=True, kw_only=True)
class Count:
    """One counter."""

    bdf: Bdf
    name: str  #: `aer_dev_correctable RxErr`, `aer_rootport_total_err_cor`

    def __str__(self) -> str:
        return f"{self.name} of {self.bdf}"


@dataclass(frozen=True, kw_only=True)
class ErrorCounters:
    """Every counter of a function and its root port."""

    counts: Mapping[Count, int]  #: empty where the kernel keeps none: it does not serve AER
    evidence: str


#: of a guest that has not begun
NO_COUNTERS = ErrorCounters(counts={}, evidence="")


async def read_counters(guest: Guest, path: ErrorPath) -> ErrorCounters:
    """Read the counters of a function and its root port."""
    places = dict.fromkeys(each.bdf for each in (path.device, path.root) if each is not None)
    shown = await show(guest, *(f"{bdf.sysfs}/aer_*" for bdf in places))
    counts = {
        Count(bdf=bdf, name=name): value
        for bdf in places
        for file in shown.matching(f"{bdf.sysfs}/aer_*")
        for name, value in parse_counter(file.rpartition("/")[2], shown.text(file)).items()
    }
    return ErrorCounters(counts=counts, evidence=shown.evidence)


def parse_counter(file: str, text: str) -> dict[str, int]:
    """Return what a file counts: one number, or a line `NAME NUMBER` for each status bit."""
    if _NUMBER.fullmatch(text):
        return {file: int(text)}
    words = (line.split() for line in text.splitlines())
    return {f"{file} {line[0]}": int(line[1]) for line in words if len(line) == 2 and _NUMBER.fullmatch(line[1])}


def expected_counts(path: ErrorPath, errors: tuple[AerError, ...], *, heard: bool) -> dict[Count, int]:
    """Return the counters that one report of these errors raises, by one each; none if it was not heard."""
    wanted: dict[Count, int] = {}
    for error in errors if heard else ():
        if path.device.masks(error):
            continue
        own, root = _FILES[path.device.severity_of(error)]
        wanted[Count(bdf=path.device.bdf, name=f"{own} {error.kernel}")] = 1
        if path.root:
            wanted[Count(bdf=path.root.bdf, name=root)] = 1
    return wanted


def counter_findings(
    before: ErrorCounters, after: ErrorCounters, wanted: Mapping[Count, int], *, note: str = ""
) -> tuple[Finding, ...]:
    """Return each counter that went up or should have; the totals of a function say the same as its bits."""
    return tuple(
        Finding(
            subject=f"counter {count}",
            expected=f"+{wanted.get(count, 0)}{note}",
            observed=f"+{value - before.counts.get(count, 0)}, to {value}",
            evidence=after.evidence,
        )
        for count, value in after.counts.items()
        if "TOTAL" not in count.name and (wanted.get(count) or value != before.counts.get(count, 0))
    )
