"""Load: what `-s load=io|net|mmio` keeps busy while the stimulus is carried out, and what it adds to the verdict.

What is kept busy is the device that the question is about where it is of that kind, else the machine's first one that
is: that one is nobody's business, and must not notice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from testbed.guest.bars import read_owner
from testbed.guest.device_proof import peer_of
from testbed.guest.nic import interface_of
from testbed.guest.pci import address_of
from testbed.model.device_kind import device_kind
from testbed.model.errors import BrokenError, UnsupportedError
from testbed.model.outcome import Finding, Verdict
from testbed.scenarios.load_kinds import Fate, LoadResult, load_disk, load_net, load_register
from testbed.scenarios.mmio_choice import known_read
from testbed.scenarios.starting_state import first_cold, load_driver, prove

if TYPE_CHECKING:
    from collections.abc import Collection

    from testbed.model.outcome import Judgement
    from testbed.model.spec import Device
    from testbed.scenarios.load_kinds import LoadKind
    from testbed.scenarios.trial import Trial

#: guest seconds of load before the stimulus
_BEFORE_SECONDS = 0.5
#: guest seconds in which what waits for a device must have heard that it is gone
_FAILED_SECONDS = 30
#: what makes a verdict bad in this way, whatever else is wrong
_GRAVE = ("data-lost", "hung")


@dataclass(kw_only=True)
class Load:
    """A load that is to be judged with the stimulus; without one, nothing is done and nothing said."""

    trial: Trial
    kind: LoadKind | None = None
    subject: str = ""  #: what is kept busy, if the stimulus is about that; a device's id, or a VF's interface
    marked: float = 0.0  #: guest seconds at the mark

    async def mark(self) -> None:
        """Let it run for a moment, and note that the stimulus comes now; raise BrokenError if it has ended."""
        if self.kind is None:
            return
        shell = self.trial.guest.shell
        await shell.sleep(_BEFORE_SECONDS)
        if self.kind.verbs.ended:
            raise BrokenError(f"starting state: {self.kind.what}: {(await self.kind.verbs.tallies())[0].error}")
        await self.kind.verbs.mark()
        self.marked = await shell.clock()

    async def judged(self, judgement: Judgement, fate: Fate) -> Judgement:
        """Return the judgement on the stimulus with what the load counted; `fate` is that of the stimulus's device."""
        if self.kind is None:
            return judgement
        result = await self._result(self.kind, fate if self.subject else Fate.STAYS)
        update: dict[str, object] = {
            "reason": f"{result.summary}; {judgement.reason}",
            "findings": (*judgement.findings, *result.findings),
        }
        if result.failure in _GRAVE or (result.failure and judgement.verdict is Verdict.GOOD):
            update |= {"verdict": Verdict.BAD, "outcome": result.failure}
        return judgement.model_copy(update=update)

    async def _result(self, kind: LoadKind, fate: Fate) -> LoadResult:
        shell = self.trial.guest.shell
        if fate is Fate.DISTURBED:
            # what came back a moment ago has had no time to answer
            await shell.sleep(1)
        stopped = await shell.clock()
        for _ in range(_FAILED_SECONDS):
            if fate is not Fate.GONE or not kind.ends:
                await kind.verbs.stop()
            await shell.sleep(1)
            if kind.verbs.ended:
                return await kind.result(fate, marked=self.marked, stopped=stopped)
        finding = Finding(
            subject=kind.what,
            expected="an error once the device is gone" if fate is Fate.GONE else "an end when told",
            observed=f"still waiting {_FAILED_SECONDS} s later",
            evidence="shell.jsonl",
        )
        summary = f"{kind.what} had not ended {_FAILED_SECONDS} s later"
        return LoadResult(summary=summary, findings=(finding,), failure="hung")


async def start_load(trial: Trial, *subjects: Device) -> Load:
    """Start the load that the options ask for, on the first of the subjects it can be, else on another device.

    Raises UnsupportedError if the machine has no such device, BrokenError if it does not work.
    """
    asked = str(trial.options["load"])
    if asked == "none":
        return Load(trial=trial)
    if asked == "mmio":
        return await _load_register(trial, subjects)
    proof = "disk" if asked == "io" else "nic"
    own = [each for each in subjects if device_kind(each.driver).proof == proof]
    device = own[0] if own else first_cold(trial.spec, proof)
    await _prove(trial, device)
    subject = device.id if own else ""
    if asked == "io":
        return Load(trial=trial, kind=await load_disk(trial.guest, device), subject=subject)
    interface, peer = await interface_of(trial.guest, device.id), await peer_of(trial.guest, device)
    return Load(trial=trial, kind=await load_net(trial.guest, interface, peer), subject=subject)


async def start_interface_load(trial: Trial, interface: str) -> Load:
    """Start frames on an interface that works, if the options ask for a load; the stimulus is about it."""
    if trial.options["load"] == "none":
        return Load(trial=trial)
    if not interface:
        raise UnsupportedError("the VF has no network interface to keep busy", hint="take one: --machine sriov")
    return Load(trial=trial, kind=await load_net(trial.guest, interface, ""), subject=interface)


async def _load_register(trial: Trial, subjects: Collection[Device]) -> Load:
    for device in (*subjects, *trial.spec.devices):
        owner = await read_owner(trial.guest, await address_of(trial.guest.machine, device.id))
        access = known_read(device, owner) if owner else None
        if owner is None or access is None:
            continue
        await _prove(trial, device)
        kind = await load_register(trial.guest, device, owner.address, access)
        return Load(trial=trial, kind=kind, subject=device.id if device in subjects else "")
    raise UnsupportedError(
        "the machine has no cold-plugged device with a memory-mapped register that is safe to read",
        hint="give it one: -p devices=e1000e",
    )


async def _prove(trial: Trial, device: Device) -> None:
    await load_driver(trial, device)
    await prove(trial, device)
