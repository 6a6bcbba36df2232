"""Inject a PCIe error (AER) with QEMU's own injector."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from testbed.model.errors import InputError, RefusedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from testbed.machine.launch import Machine

_COMMAND = "pcie_aer_inject_error"
#: what the human monitor takes as one word
_WORD = re.compile(r"[A-Za-z0-9._-]+")

#: hw/pci/pcie_aer.c
ERRORS = (
    *("DLP", "SDN", "POISON_TLP", "FCP", "COMP_TIME", "COMP_ABORT", "UNX_COMP", "RX_OVER", "MALF_TLP", "ECRC", "UNSUP"),
    *("ACSV", "INTN", "MCBTLP", "ATOP_EBLOCKED", "TLP_PRF_BLOCKED"),
    *("RCVR", "BAD_TLP", "BAD_DLLP", "REP_ROLL", "REP_TIMER", "ADV_NONFATAL", "INTERNAL", "HL_OVERFLOW"),
)


async def inject_by_qemu(machine: Machine, device_id: str, error: str, header: Sequence[str] = ()) -> str:
    """Inject an error by its name, with the words of a TLP header, and return what QEMU said.

    Raises RefusedError if that is not OK. An OK means that the device took the error, not that the guest heard of it.
    """
    words = (device_id, error, *header)
    for word in words:
        if not _WORD.fullmatch(word):
            raise InputError(f"inject: {word!r} is no word the human monitor takes")
    line = " ".join((_COMMAND, *words))
    said = str(await machine.qmp.execute("human-monitor-command", {"command-line": line})).strip()
    # the human monitor's errors are text in a normal reply
    if not said.startswith("OK"):
        raise RefusedError(line, said, evidence=machine.qmp.last_reply)
    return said
