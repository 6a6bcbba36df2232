"""The two injectors: QEMU's, which gives an emulated device an error, and the guest kernel's, which simulates one.

Source: QEMU hw/pci/pcie_aer.c (the human monitor's pcie_aer_inject_error, 7.2 to 10.2); Linux
drivers/pci/pcie/aer_inject.c (the same from 5.10 to 7.1).
"""

from __future__ import annotations

import contextlib
import re
import struct
from typing import TYPE_CHECKING

from testbed.model.aer_name import is_correctable
from testbed.model.errors import InputError, RefusedError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from testbed.actions.injection import Header
    from testbed.guest.guest import Guest
    from testbed.guest.shell import Result
    from testbed.machine.launch import Machine
    from testbed.model.aer import AerError, ErrorRecord
    from testbed.model.pci import Bdf

_COMMAND = "pcie_aer_inject_error"
#: what the human monitor takes as one word
_WORD = re.compile(r"[A-Za-z0-9._-]+")
NODE = "/dev/aer_inject"
_MODULE = "aer_inject"


async def _inject_one(
    machine: Machine, device_id: str, error: AerError, *, header: Header | None = None, prefix: Header | None = None
) -> str:
    """Give a device an error and return what QEMU said; raise RefusedError if that is not OK."""
    if not _WORD.fullmatch(device_id):
        raise InputError(f"inject: {device_id!r} is not an id that the human monitor accepts")
    line = _monitor_line(device_id, error, header, prefix)
    said = str(await machine.qmp.execute("human-monitor-command", {"command-line": line})).strip()
    # the human monitor's errors are text in a normal reply
    if not said.startswith("OK"):
        raise RefusedError(line, said.removeprefix("Error: "), evidence=machine.qmp.last_reply)
    return said


async def inject_by_qemu(
    machine: Machine,
    device_id: str,
    record: ErrorRecord,
    *,
    header: Header | None = None,
    prefix: Header | None = None,
    count: int = 1,
) -> str:
    """Give a device every error of a record, `count` times, and return what QEMU said last.

    Raises RefusedError if that is not OK; an OK means that the device took the error, not that the guest heard of it.
    QEMU takes one bit at a time (pcie_aer_inject_error(), 7.2 to 10.2): whoever gives it several stops the machine
    meanwhile, as `at_once` does, so that its guest sees them together.
    """
    said = ""
    for error in record.errors * count:
        said = await _inject_one(machine, device_id, error, header=header, prefix=prefix)
    return said


@contextlib.asynccontextmanager
async def at_once(machine: Machine) -> AsyncIterator[None]:
    """Stop the machine for as long as this is open: what happens to it meanwhile, its guest sees at the same moment."""
    await machine.qmp.execute("stop")
    try:
        yield
    finally:
        await machine.qmp.execute("cont")


def _monitor_line(device_id: str, error: AerError, header: Header | None, prefix: Header | None) -> str:
    # an error without a name goes by its bit
    name = [error.qemu] if error.qemu else ["-c"] * is_correctable(error) + [device_id, f"{error.mask:#x}"]
    place = [device_id, *name] if error.qemu else name
    # the prefix stands after the header, so that one is needed
    words = [*(header or ((0, 0, 0, 0) if prefix else ())), *(prefix or ())]
    return " ".join((_COMMAND, *place, *(f"{_swapped(word):#x}" for word in words)))


def _swapped(word: int) -> int:
    """Return a word with its bytes reversed: QEMU logs headers the wrong way round (stl_be_p, 7.2 to 10.0).

    By PCIe 7.8.4.9 a header's first byte is the highest of its register, which is how Linux prints it.
    """
    return int.from_bytes(word.to_bytes(4, "little"), "big")


async def inject_by_guest(guest: Guest, orders: Sequence[bytes]) -> Result:
    """Write errors to the kernel's injector, one right after the other, its module loaded first."""
    writes = [f"printf '{''.join(f'{chr(92)}{byte:03o}' for byte in order)}' > {NODE}" for order in orders]
    command = " && ".join([f"modprobe {_MODULE}", *writes])
    guest.machine.journal.step("guest", command)
    return await guest.shell.run(command)


async def kernel_reply(guest: Guest, result: Result, *, after: int) -> tuple[str, str]:
    """Return why the kernel's injector refused, and where that is recorded: the write fails, and the log says why."""
    await guest.shell.catch_up()
    words = guest.shell.log.find(r"aer_inject: ", after=after)
    if not words:
        return result.error, result.evidence
    return words[-1].text.partition("aer_inject: ")[2], words[-1].reference


async def unload_injector(guest: Guest) -> None:
    """Unload the kernel's injector: what it was told of a function, it shows instead of that one's registers."""
    await guest.act(f"[ ! -d /sys/module/{_MODULE} ] || modprobe -r {_MODULE}")


def pack_order(bdf: Bdf, record: ErrorRecord, header: Header | None = None) -> bytes:
    """Return the 32 bytes that the kernel's injector takes: struct aer_error_inj."""
    status = record.uncorrectable, record.correctable
    return struct.pack("<BBBx7I", bdf.bus, bdf.device, bdf.function, *status, *(header or (0, 0, 0, 0)), bdf.domain)
