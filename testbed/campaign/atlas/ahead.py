"""Ahead: kernels and QEMUs of an atlas are fetched and asked for their versions before anything is judged."""

from __future__ import annotations

import hashlib
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
        self._total = len(set(kernels)) + len(set(qemus))
        self._begun = 0
        self.gaps: list[AtlasGap] = []
        self.qemus = self._had("qemu", qemus, self._qemu)
        self.kernels = self._had("kernel", kernels, _kernel)
        if self.gaps:
            progress(f"{len(self.gaps)} of {self._total} not available: continuing without")

    def _had(
        self, axis: Axis, names: Sequence[str], column: Callable[[str, Progress], AtlasColumn]
    ) -> list[AtlasColumn]:
        """Return a column for each available name; the archive may have lost one, and the rest is still judged."""
        found = []
        for name in dict.fromkeys(names):
            self._begun += 1
            what = f"[{self._begun}/{self._total}] {axis} {name or '(default)'}"
            self._progress(what)
            try:
                found.append(column(name, partial(self._tell, what)))
            except BedError as error:
                self.gaps.append(AtlasGap(axis=axis, name=name, why=error.message))
                self._tell(what, f"unavailable: {error.message}")
            else:
                self._tell(what, found[-1].version)
        return found

    def _tell(self, what: str, words: str) -> None:
        self._progress(f"{what}: {words}")

    def _qemu(self, name: str, progress: Progress) -> AtlasColumn:
        try:
            return _qemu(name)
        except LackingError:
            # what has a slash is a path: there is nothing to fetch
            if not self._fetch or "/" in name:
                raise
        fetch_qemu(name, progress=progress)
        return _qemu(name)


def check_unchanged(plan: AtlasPlan, *, progress: Progress) -> None:
    """Raise InputError if a column is another version, or build, now than when its first cells were judged."""
    for was in plan.qemus:
        now = _qemu(was.name)
        _check("QEMU", was, now, same=was.sha256 == now.sha256)
    for was in plan.kernels:
        now = _kernel(was.name, progress)
        # the initramfs beside it is the test bed's own, and may change
        _check("kernel", was, now, same=was.package == now.package)


def _check(axis: str, was: AtlasColumn, now: AtlasColumn, *, same: bool) -> None:
    if same and was.version == now.version:
        return
    what = f"{now.version} now, but was {was.version}"
    if was.version == now.version:
        what = f"another build of {now.version} now, {now.package}, than it was"
    raise InputError(
        f"atlas: {axis} {was.name or '(default)'} is {what} when it began",
        hint="its results so far are in its rundir; start a new atlas",
    )


def _qemu(name: str) -> AtlasColumn:
    qemu = find_qemu(name)
    with qemu.path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return AtlasColumn(name=name, version=qemu.version.partition(" ")[0], package=qemu.version, sha256=sha256)


def _kernel(name: str, progress: Progress) -> AtlasColumn:
    image = ensure_image(name, progress=progress)
    return AtlasColumn(name=name, version=image.kernel, package=image.package, sha256=image.id)
