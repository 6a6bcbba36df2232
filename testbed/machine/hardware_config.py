"""A function's configuration space as the hardware has it, read past the guest through ECAM (PCIe Base 6.3, 7.2.2)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from testbed.model.config_space import SIZES, ConfigSpace

if TYPE_CHECKING:
    from testbed.machine.launch import Machine
    from testbed.model.pci import Bdf

#: where q35 has it (`info mtree`), once the firmware has switched it on: hw/pci/pcie_host.c
_ECAM = re.compile(r"^ *([0-9a-f]{16})-[0-9a-f]{16} \(.*\): pcie-mmcfg", re.MULTILINE)
_WORDS = re.compile(r"0x([0-9a-f]{8})\b")


async def hardware_config(machine: Machine, bdf: Bdf) -> ConfigSpace | None:
    """Return all 4096 bytes of a function's configuration space; None on a machine without ECAM."""
    ecam = _ECAM.search(await _monitor(machine, "info mtree"))
    if not ecam:
        return None
    address = int(ecam[1], 16) | bdf.bus << 20 | bdf.device << 15 | bdf.function << 12
    dump = await _monitor(machine, f"xp /{SIZES[-1] // 4}xw {address:#x}")
    words = [word for line in dump.splitlines() for word in _WORDS.findall(line.partition(":")[2])]
    return ConfigSpace(b"".join(int(word, 16).to_bytes(4, "little") for word in words))


async def _monitor(machine: Machine, line: str) -> str:
    return str(await machine.qmp.execute_unrepeated("human-monitor-command", {"command-line": line}))
