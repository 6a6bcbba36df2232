"""A function's binary `config` as sysfs gives it, and the `resource` beside it that knows the sizes of BARs.

Source: Linux Documentation/PCI/sysfs-pci.rst; drivers/pci/pci-sysfs.c, resource_show(): a line a resource, with start,
end and flags; six BARs, the ROM, then with CONFIG_PCI_IOV the six VF BARs, each for all VFs together.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from testbed.lint.function import Function
from testbed.model.config_space import SIZES, ConfigSpace
from testbed.model.errors import InputError
from testbed.model.sriov import VF_BARS, read_sriov

if TYPE_CHECKING:
    from collections.abc import Mapping

    from testbed.model.pci import Bdf

_LINE = re.compile(r"0x([0-9a-f]{1,16}) 0x([0-9a-f]{1,16}) 0x[0-9a-f]{1,16}")
_BARS = 6
_FIRST_VF_BAR = 7


def parse_config(data: bytes, *, source: str, bdf: Bdf | None, resource: str = "") -> Function:
    """Read one function; raise InputError if these cannot be its bytes."""
    if len(data) not in SIZES:
        wanted = ", ".join(map(str, SIZES))
        raise InputError(
            f"{source}: neither lspci text nor a binary config, which has one of {wanted} bytes: it has {len(data)}",
            hint="for example: testbed pci lint /sys/bus/pci/devices/0000:01:00.0/config",
        )
    space = ConfigSpace(data)
    sizes = _sizes(resource)
    sriov = read_sriov(space)
    vfs = sriov.total_vfs if sriov else 0
    return Function(
        space=space,
        bdf=bdf,
        source=source,
        bar_sizes={index: sizes[index] for index in range(_BARS) if index in sizes},
        vf_bar_sizes={
            index - _FIRST_VF_BAR: size // vfs
            for index, size in sizes.items()
            if vfs and _FIRST_VF_BAR <= index < _FIRST_VF_BAR + VF_BARS
        },
    )


def _sizes(resource: str) -> Mapping[int, int]:
    """Return the size of each resource that has one."""
    sizes = {}
    for index, line in enumerate(resource.splitlines()):
        match = _LINE.fullmatch(line)
        start, end = (int(match[1], 16), int(match[2], 16)) if match else (0, 0)
        if end > start:
            sizes[index] = end - start + 1
    return sizes
