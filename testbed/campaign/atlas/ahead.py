"""Ahead: kernels and QEMUs of an atlas are fetched and asked for their versions before anything is judged."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from testbed.host.qemu import find_qemu
from testbed.host.qemu_fetch import fetch_qemu
from testbed.image.store import ensure_image
from testbed.model.atlas import AtlasColumn, AtlasGap
from testbed.model.errors import BedError, InputError, LackingError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from testbed.campaign.atlas.atlas import AtlasPlan
    from testbed.model.version_rule import Axis

    Progress = Callable[[str], None]


class Columns:
    """Which of the requested kernels and QEMUs are available, and which are not."""

    def __init__(self, kernels: Sequence[str], qemus: Sequence[str], *, fetch: bool, progress: Progress) -> None:
        self._progress = progress
        self._fetch = fetch
        self._total = len(kernels) + len(qemus)
        self._begun = 0
        self.gaps: list[AtlasGap] = []
        self.qemus = self._had("qemu", qemus, self._qemu_version)
        self.kernels = self._had("kernel", kernels, self._kernel_version)

    def _had(self, axis: Axis, names: Sequence[str], version: Callable[[str, Progress], str]) -> list[AtlasColumn]:
        """Return a column for each available name; the archive may have lost one, and the rest is still judged."""
        found = []
        for name in dict.fromkeys(names):
            self._begun += 1
            what = f"[{self._begun}/{self._total}] {axis} {name or '(default)'}"
            self._progress(what)
            try:
                found.append(AtlasColumn(name=name, version=version(name, partial(self._tell, what))))
            except BedError as error:
                self.gaps.append(AtlasGap(axis=axis, name=name, why=error.message))
                self._tell(what, f"unavailable: {error.message}")
            else:
                self._tell(what, found[-1].version)
        return found

    def _tell(self, what: str, words: str) -> None:
        self._progress(f"{what}: {words}")

    def _qemu_version(self, name: str, progress: Progress) -> str:
        try:
            return _number(find_qemu(name).version)
        except LackingError:
            # what has a slash is a path: there is nothing to fetch
            if not self._fetch or "/" in name:
                raise
        fetch_qemu(name, progress=progress)
        return _number(find_qemu(name).version)

    @staticmethod
    def _kernel_version(name: str, progress: Progress) -> str:
        return ensure_image(name, progress=progress).kernel


def check_unchanged(plan: AtlasPlan, *, progress: Progress) -> None:
    """Raise InputError if a column is another version now than when its first cells were judged."""
    for axis, columns in (("QEMU", plan.qemus), ("kernel", plan.kernels)):
        for column in columns:
            qemu = axis == "QEMU"
            now = (
                _number(find_qemu(column.name).version) if qemu else ensure_image(column.name, progress=progress).kernel
            )
            if now != column.version:
                raise InputError(
                    f"atlas: {axis} {column.name or '(default)'} is {now} now, but was {column.version} when it began",
                    hint="its results so far are in its rundir; start a new atlas",
                )


def _number(version: str) -> str:
    return version.partition(" ")[0]
