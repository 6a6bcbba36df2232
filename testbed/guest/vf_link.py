"""A VF's link while something happens to its PF: carrier sampled in guest time, and frames that come back or do not."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Self

from testbed.guest.files import show

if TYPE_CHECKING:
    from types import TracebackType

    from testbed.guest.guest import Guest
    from testbed.model.pci import Bdf

_INTERFACES = "/sys/class/net/*"
#: guest seconds between two samples
_PERIOD = 0.2


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Whether there was carrier at one moment."""

    seconds: float  #: guest seconds
    carrier: bool
    evidence: str


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """Whether a frame went out and an answer came back."""

    works: bool
    seconds: float  #: guest seconds at its end
    observed: str
    evidence: str


async def interface_at(guest: Guest, bdf: Bdf) -> str:
    """Return the name of a function's network interface, or an empty string."""
    links = (await show(guest, _INTERFACES)).links
    return next((PurePosixPath(path).name for path, target in links.items() if str(bdf) in target.split("/")[-4:]), "")


async def await_carrier(guest: Guest, interface: str, *, seconds: float) -> Sample:
    """Bring an interface up and wait for carrier; return the last sample, with or without."""
    await guest.act(f"ip link set {interface} up")
    end = await guest.shell.clock() + seconds
    while True:
        sample = await _sample(guest, interface)
        if sample.carrier or sample.seconds >= end:
            return sample
        await guest.shell.sleep(_PERIOD)


async def exchange(guest: Guest, interface: str) -> Exchange:
    """Send a frame to QEMU's gateway and wait for its answer."""
    result = await guest.shell.run_verb("prove-nic", interface)
    words = ", ".join(part for part in (*result.text.splitlines(), result.error) if part)
    return Exchange(works=result.status == 0, seconds=result.ended, observed=words, evidence=result.evidence)


async def exchange_before(guest: Guest, interface: str, *, end: float) -> Exchange:
    """Send frames until one comes back, or the guest's time is `end`; return the last try."""
    while True:
        answer = await exchange(guest, interface)
        if answer.works or answer.seconds >= end:
            return answer


class CarrierWatch:
    """Samples an interface's carrier for as long as it is open."""

    def __init__(self, guest: Guest, interface: str) -> None:
        self._guest = guest
        self._interface = interface
        self.samples: list[Sample] = []
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self.samples.append(await _sample(self._guest, self._interface))
        self._task = asyncio.create_task(self._watch())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    @property
    def lost(self) -> Sample | None:
        """Return the first sample without carrier; None if there is none."""
        return next((sample for sample in self.samples if not sample.carrier), None)

    @property
    def back(self) -> Sample | None:
        """Return the first sample with the carrier that there is now; None if there is none."""
        without = max((at for at, sample in enumerate(self.samples) if not sample.carrier), default=-1)
        return self.samples[without + 1] if without + 1 < len(self.samples) else None

    async def until_carrier(self, *, before: float) -> bool:
        """Wait until there is carrier, or the guest's time is `before`; return whether there is."""
        while not self.samples[-1].carrier and self._guest.shell.seconds < before:
            await self._guest.shell.sleep(_PERIOD)
        return self.samples[-1].carrier

    async def _watch(self) -> None:
        while True:
            await self._guest.shell.sleep(_PERIOD)
            self.samples.append(await _sample(self._guest, self._interface))


async def _sample(guest: Guest, interface: str) -> Sample:
    path = f"/sys/class/net/{interface}/carrier"
    shown = await show(guest, path)
    return Sample(seconds=guest.shell.seconds, carrier=shown.text(path) == "1", evidence=shown.evidence)
