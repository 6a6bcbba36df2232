"""PCI names and addresses, as Linux and the PCI specifications spell them."""

from __future__ import annotations

import re
from dataclasses import dataclass

_BDF = re.compile(r"(?:([0-9a-f]{4,8}):)?([0-9a-f]{2}):([01][0-9a-f])\.([0-7])")


@dataclass(frozen=True, order=True)
class Bdf:
    """A function's address; prints as Linux does: `0000:01:00.0`."""

    domain: int
    bus: int
    device: int
    function: int

    @classmethod
    def parse(cls, text: str) -> Bdf:
        """Read `[DDDD:]BB:DD.F`; raise ValueError if it is not one."""
        match = _BDF.fullmatch(text.strip().lower())
        if not match:
            raise ValueError(f"{text!r} is not a PCI address like 0000:01:00.0")
        return cls(*(int(group or "0", 16) for group in match.groups()))

    def __str__(self) -> str:
        return f"{self.domain:04x}:{self.bus:02x}:{self.device:02x}.{self.function}"

    @property
    def sysfs(self) -> str:
        """Return the function's folder in the guest's sysfs."""
        return f"/sys/bus/pci/devices/{self}"
