"""Scenario disk-image-in-use: a disk is hot-plugged whose image another QEMU has open."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from testbed.actions.hotplug import add_device
from testbed.guest.disk import await_disk, find_disk
from testbed.machine.argv import Boot
from testbed.machine.launch import launch
from testbed.machine.overlay import empty_overlay
from testbed.model.device_kind import device_kind
from testbed.model.errors import RefusedError
from testbed.model.outcome import Finding, Judgement, Verdict
from testbed.model.parameter import Parameter
from testbed.model.spec import Device, MachineSpec
from testbed.scenarios.scenario import PATIENCE, scenario
from testbed.scenarios.starting_state import DISK_MODULES
from testbed.scenarios.trial import free_slot

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import PurePath

    from testbed.machine.launch import Machine
    from testbed.model.spec import Property
    from testbed.scenarios.trial import Trial

#: how a disk has its image, by the options of QEMU: only it writes (the default), others may too, nobody of it writes
_WRITES, _SHARES, _READS = "writes", "shares", "reads"
#: the last one sharing what it reads; and an image opened without a lock, as `qemu-img --force-share` does
_READS_SHARED, _UNLOCKED = "reads-shared", "unlocked"
_IMAGE, _OVERLAY, _COPY = "image", "overlay", "copy"
#: what the image begins with
_MARK = b"held by another machine\n"
_SIZE = 8 << 20
_NAME = "shared"


@scenario(
    modules=DISK_MODULES,
    warp_safe=True,
    patience=PATIENCE,
    options={
        "holder": Parameter(
            type="str",
            default=_WRITES,
            choices=[_WRITES, _SHARES, _READS],
            doc="the other QEMU's disk: exclusive writer, share-rw=on, or read-only",
        ),
        "disk": Parameter(
            type="str",
            default=_WRITES,
            choices=[_WRITES, _SHARES, _READS, _READS_SHARED, _UNLOCKED],
            doc="the guest's: the same, read-only with share-rw=on, or the image opened read-only with force-share=on",
        ),
        "file": Parameter(
            type="str",
            default=_IMAGE,
            choices=[_IMAGE, _OVERLAY, _COPY],
            doc="what backs it: the image, an overlay of the guest's own over it, or a copy",
        ),
    },
)
async def disk_image_in_use(trial: Trial) -> Judgement:
    """Can a disk be hot-plugged whose image is another QEMU's disk?"""
    machine, how = trial.guest.machine, trial.options["disk"]
    async with _holder(machine, trial.options["holder"]) as image:
        node = await _node(machine, image, how, trial.options["file"])
        trial.stimulus(
            f"device_add of a disk ({how}), its file the {trial.options['file']} ({trial.options['holder']})"
        )
        reply = Finding(subject="QEMU's reply", expected="taken", observed="taken", evidence="qmp.jsonl")
        slot = free_slot(trial.spec)
        try:
            await _add(machine, node, share=how in (_SHARES, _READS_SHARED), bus=slot.bus, addr=slot.addr)
        except RefusedError as refusal:
            words = refusal.description
            if "lock" not in words:
                raise
            refused = reply.model_copy(update={"observed": words, "evidence": refusal.evidence})
            reason = f"{words}: another QEMU has the image as its disk ({trial.options['holder']})"
            return Judgement(verdict=Verdict.BAD, outcome="locked", reason=reason, findings=(refused,))
        taken = reply.model_copy(update={"evidence": machine.qmp.last_reply})
        content = await _content(trial)
    good = content.observed == content.expected
    return Judgement(
        verdict=Verdict.GOOD if good else Verdict.BAD,
        outcome="taken" if good else "dead",
        reason=f"taken; the guest reads {content.observed}",
        findings=(taken, content),
    )


@contextlib.asynccontextmanager
async def _holder(machine: Machine, how: str) -> AsyncIterator[PurePath]:
    """Have another QEMU, which runs nothing, hold an image as its disk; yield the image."""
    rundir = machine.rundir / "holder"
    rundir.mkdir()
    image = machine.host.folder(rundir) / "image.raw"
    await machine.host.write_file(image, _MARK.ljust(_SIZE, b"\0"))
    spec = MachineSpec(machine_type="pc", memory_mib=64)
    boot = Boot(kernel=None, initramfs=None, cmdline="")
    machine.journal.step("say", "another QEMU has an image as its disk: this script has neither the one nor the other")
    starting = launch(spec, boot, host=machine.host, qemu=machine.qemu, accel=machine.accel, rundir=rundir)
    async with starting as holder:
        await _add(holder, _raw(image, read_only=how == _READS), share=how == _SHARES, bus=spec.root_bus)
        yield image


async def _node(machine: Machine, image: PurePath, how: str, file: str) -> dict[str, Any]:
    """Return the block node of the guest's disk, whose own file is made if it has one."""
    read_only, unlocked = how in (_READS, _READS_SHARED, _UNLOCKED), how == _UNLOCKED
    if file == _IMAGE:
        return _raw(image, read_only=read_only, unlocked=unlocked)
    own = machine.folder / f"{file}.img"
    if file == _COPY:
        await machine.host.write_file(own, _MARK.ljust(_SIZE, b"\0"))
        return _raw(own, read_only=read_only, unlocked=unlocked)
    await machine.host.write_file(own, empty_overlay(_SIZE))
    below = _raw(image, read_only=True, unlocked=unlocked)
    return {"driver": "qcow2", "file": {"driver": "file", "filename": str(own)}, "backing": below}


def _raw(image: PurePath, *, read_only: bool, unlocked: bool = False) -> dict[str, Any]:
    file = {"driver": "file", "filename": str(image)}
    return {"driver": "raw", "read-only": read_only, **({"force-share": True} if unlocked else {}), "file": file}


async def _add(machine: Machine, node: dict[str, Any], *, share: bool, bus: str, addr: str | None = None) -> None:
    """Add a disk; raise RefusedError with QEMU's words."""
    await machine.qmp.execute("blockdev-add", {"node-name": _NAME, **node})
    properties: dict[str, Property] = {"drive": _NAME, "serial": _NAME, "share-rw": share}
    driver = device_kind("virtio-blk").driver
    await add_device(machine, Device(driver=driver, id=_NAME, bus=bus, addr=addr, properties=properties))


async def _content(trial: Trial) -> Finding:
    """Return what the guest reads at the begin of its disk."""
    guest, wanted = trial.guest, _MARK.decode().strip()
    await await_disk(guest, _NAME, seconds=trial.deadline)
    name = await find_disk(guest, _NAME)
    result = await guest.shell.run(f"head -n 1 /dev/{name}") if name else None
    observed = (result.text if result.status == 0 else result.error) if result else "no such disk"
    evidence = result.evidence if result else "shell.jsonl"
    return Finding(subject="what the guest reads", expected=wanted, observed=observed, evidence=evidence)
