"""The configuration space of every function of a running guest, for the rules of `testbed pci lint`."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from testbed.guest.files import show
from testbed.lint.sysfs import parse_config
from testbed.model.pci import Bdf

if TYPE_CHECKING:
    from testbed.guest.guest import Guest
    from testbed.lint.function import Function

_CONFIG = "/sys/bus/pci/devices/*/config"
_RESOURCE = "/sys/bus/pci/devices/*/resource"


async def read_functions(guest: Guest) -> tuple[Function, ...]:
    """Return every function that the guest has, with the sizes of its BARs."""
    shown = await show(guest, _CONFIG, _RESOURCE)
    folders = [PurePosixPath(path).parent for path in shown.matching(_CONFIG)]
    return tuple(
        parse_config(
            shown.files[f"{folder}/config"],
            source=f"{folder}/config",
            bdf=Bdf.parse(folder.name),
            resource=shown.text(f"{folder}/resource"),
        )
        for folder in folders
    )
