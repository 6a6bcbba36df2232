"""What a client and its workers send each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from testbed.campaign.execution.cluster.parcel import Parcel
    from testbed.image.store import Image
    from testbed.model.outcome import Cell


@dataclass(frozen=True, kw_only=True)
class Offer:
    """What a worker has."""

    source: str  #: `own_source` there
    store: str  #: names the folder that keeps what it receives: workers of one host may share it
    cores: int
    memory_mib: int
    qemus: dict[str, str]  #: by the version each reports, where it is; the default one first
    kvm: bool  #: whether a guest of the default QEMU runs under KVM; False where nobody asked

    def __str__(self) -> str:
        accelerators = "kvm, tcg" if self.kvm else "tcg"
        return f"{self.cores} cores, {self.memory_mib} MiB, {accelerators}, QEMU {', '.join(self.qemus) or 'none'}"


@dataclass(frozen=True, kw_only=True)
class RemoteCell:
    """A cell with all that a worker needs to prepare it."""

    cell: Cell
    qemu: str  #: the version
    template: Parcel
    template_file: str
    scenario: Parcel | None  #: None: it is part of the test bed
    scenario_name: str
    image: Image  #: as it is at the sender
    image_files: Parcel

    @property
    def parcels(self) -> list[Parcel]:
        """Return the files it needs."""
        return [self.template, self.image_files, *([self.scenario] if self.scenario else [])]


@dataclass(frozen=True, kw_only=True)
class Task:
    """A run of a cell on a worker."""

    token: str  #: of the campaign
    index: int
    limit: float | None
    cell: RemoteCell


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """What comes back: the outcome as JSON, and its rundir as a compressed tar without the disks."""

    outcome: str
    rundir: bytes


def topic(token: str) -> str:
    """Return where workers report the progress of a campaign's cells."""
    return f"testbed-{token}"
