"""The proofs of life after an error, and a late look at what does not work: some drivers take a minute to give up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from testbed.guest.device_proof import prove_device
from testbed.guest.shell import PATIENCE
from testbed.guest.task import find_process, read_stack
from testbed.model.errors import BlockedError
from testbed.model.outcome import Finding, standing_findings
from testbed.model.parameter import Parameter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from testbed.model.spec import Device
    from testbed.scenarios.trial import Trial

#: guest seconds after which a driver has given up a device that does not answer: the nvme driver waits 30 s for a
#: command and 60 s for the controller to be ready again (drivers/nvme/host/pci.c, nvme_timeout; CAP.TO)
_GIVEN_UP = {"nvme": 100.0}
#: wall seconds of patience with a proof that is looked at again anyway
_FIRST_PATIENCE = 15.0
LATE_OPTION = Parameter(
    type="int",
    default=0,
    min=0,
    max=600,
    doc="when to look again at what does not work, in guest seconds after the error; 0: once its driver has given up "
    "(nvme: 100), never if it gives up at once",
)


@dataclass(frozen=True, kw_only=True)
class Look:
    """What was seen of a device after an error."""

    works: bool
    observed: str
    findings: tuple[Finding, ...]
    blocked: int = 0  #: the process of a proof that does not return; 0 if it did
    late: bool = False  #: it did not work at first


async def looks_after(trial: Trial, devices: Sequence[Device], *, since: float) -> list[Look]:
    """Prove devices after an error at guest second `since`; look again, late, at those that do not work."""
    own = float(trial.options.get("seconds", 0))
    late = own or max((_GIVEN_UP.get(each.driver, 0.0) for each in devices), default=0.0)
    looks = [await _look(trial, device, patience=_FIRST_PATIENCE if late else PATIENCE) for device in devices]
    left = since + late - await trial.guest.shell.clock()
    if all(look.works for look in looks) or left <= 0:
        return looks
    trial.progress(f"looking again {late:.0f} s after the error")
    await trial.guest.shell.sleep(left)
    return [
        look if look.works else _later(look, await _look_again(trial, device, look), late)
        for device, look in zip(devices, looks, strict=True)
    ]


async def _look(trial: Trial, device: Device, *, patience: float = PATIENCE) -> Look:
    try:
        proof = await prove_device(trial.guest, device, patience=patience)
    except BlockedError as error:
        finding = Finding(subject=device.id, expected="works", observed=str(error), evidence=error.evidence)
        findings = (finding, *standing_findings(error))
        return Look(works=False, observed=f"{device.id}: {error}", findings=findings, blocked=error.pid)
    return Look(works=proof.works, observed=proof.observed, findings=(proof.finding,))


async def _look_again(trial: Trial, device: Device, first: Look) -> Look:
    """Prove a device again, unless the process of the first proof still hangs in the same place."""
    shell = trial.guest.shell
    task = await find_process(shell, first.blocked) if first.blocked else None
    if task is None:
        return await _look(trial, device)
    stack, evidence = await read_stack(shell, task)
    finding = Finding(
        subject=str(task), expected="to make progress", observed=" < ".join(stack) or "-", evidence=evidence
    )
    within = f" in {stack[0]}" if stack else ""
    return Look(works=False, observed=f"{task}{within}", findings=(finding,), blocked=task.pid)


def _later(first: Look, second: Look, seconds: float) -> Look:
    """Return what came of a device in the end: the second look, with what the first one saw."""
    when = f"{seconds:.0f} s after the error"
    findings = [each.model_copy(update={"subject": f"{each.subject}, {when}"}) for each in second.findings]
    return Look(
        works=second.works,
        observed=f"at first {first.observed}; {when} {second.observed}",
        findings=(*first.findings, *findings),
        blocked=second.blocked,
        late=True,
    )
