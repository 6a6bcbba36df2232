"""Snapshot: a machine's whole state in a file, saved with `migrate` and loaded with `migrate-incoming`.

The file's descriptor is handed over QMP, since the sandbox forbids QEMU to spawn a helper. A QEMU that has the
capability mapped-ram (9.0) writes memory pages at fixed places of the file; an older one writes a stream.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from typing import TYPE_CHECKING, Any

from testbed.model.errors import ChannelError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from testbed.machine.launch import Machine
    from testbed.machine.qmp import Qmp
    from testbed.model.spec import MachineSpec

_MAPPED = "mapped-ram"
_ENDED = ("completed", "failed", "cancelled")
#: wall seconds a save or a load may take; 0.2 s is usual
_LIMIT = 60.0
#: bytes a second, more than any host writes: by default QEMU saves no faster than 128 MiB a second
_BANDWIDTH = 1 << 40

#: drivers whose whole state is in the migration stream, each proven by tests/guest/test_devices.py, test_warm.py or
#: test_level2.py; others (nvme cannot migrate, edu migrates and forgets) are never in a snapshot. igb is one as long as
#: it has no VFs: enable them after the start
KEEPING_DRIVERS = frozenset(
    {
        *("pcie-root-port", "x3130-upstream", "xio3130-downstream", "pcie-pci-bridge", "pci-bridge", "pxb-pcie"),
        *("virtio-blk-pci", "virtio-scsi-pci", "scsi-hd"),
        *("virtio-net-pci", "e1000", "e1000e", "igb"),
        *("qemu-xhci", "intel-iommu", "virtio-serial-pci", "virtserialport"),
    }
)


#: the machine types whose pcie-root-ports leave their MSI-X out of the stream (x-migrate-msix=off up to 2.9): a resumed
#: port raises no interrupt, so that the guest does not notice a hot-plug
_WITHOUT_MSIX = re.compile(r"pc-q35-2\.[0-9]")


def keeps_state(spec: MachineSpec) -> bool:
    """Return whether a machine can be saved and loaded without losing anything."""
    drivers = {device.driver for device in spec.devices}
    forgets = "pcie-root-port" in drivers and _WITHOUT_MSIX.fullmatch(spec.machine_type)
    return drivers <= KEEPING_DRIVERS and not forgets


async def save(machine: Machine, path: Path) -> None:
    """Write the state of a stopped machine into a new file; raise ChannelError if QEMU cannot."""
    with _descriptor(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL) as descriptor:
        await machine.qmp.execute_unrepeated("migrate-set-parameters", {"max-bandwidth": _BANDWIDTH})
        await _migrate(machine.qmp, "migrate", descriptor)
        await asyncio.wait_for(_finalized(machine.qmp), _LIMIT)


async def load(machine: Machine, path: Path) -> None:
    """Load the state into a machine that was launched to wait for one; it is stopped afterwards."""
    with _descriptor(path, os.O_RDONLY) as descriptor:
        await _migrate(machine.qmp, "migrate-incoming", descriptor)


async def _migrate(qmp: Qmp, command: str, descriptor: int) -> None:
    capabilities = {each["capability"] for each in await qmp.execute_unlogged("query-migrate-capabilities", {})}
    mapped = _MAPPED in capabilities
    wanted = [{"capability": "events", "state": True}]
    if mapped:
        wanted.append({"capability": _MAPPED, "state": True})
    await qmp.execute_unrepeated("migrate-set-capabilities", {"capabilities": wanted})
    uri = await _hand_over(qmp, descriptor, mapped=mapped)
    with qmp.listen_all("MIGRATION") as events:
        await qmp.execute_unrepeated(command, {"uri": uri})
        await asyncio.wait_for(_ended(events), _LIMIT)


async def _ended(events: asyncio.Queue[Mapping[str, Any]]) -> None:
    while (status := (await events.get())["status"]) not in _ENDED:
        pass
    if status != "completed":
        raise ChannelError(f"snapshot: QEMU reports the migration as {status}")


async def _finalized(qmp: Qmp) -> None:
    """Wait until a machine that was saved may run: QEMU says "completed" before, and no event tells the rest.

    Source: migration/migration.c, migration_completion() and then migration_iteration_finish().
    """
    while (await qmp.execute_unlogged("query-status", {}))["status"] == "finish-migrate":
        pass


async def _hand_over(qmp: Qmp, descriptor: int, *, mapped: bool) -> str:
    qmp.send_descriptor(descriptor)
    if mapped:
        fdset = await qmp.execute_unrepeated("add-fd", {"fdset-id": 1})
        return f"file:/dev/fdset/{fdset['fdset-id']}"
    await qmp.execute_unrepeated("getfd", {"fdname": "snapshot"})
    return "fd:snapshot"


@contextlib.contextmanager
def _descriptor(path: Path, flags: int) -> Iterator[int]:
    descriptor = os.open(path, flags | os.O_CLOEXEC, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
