"""CpuIdentity: which CPU a vCPU says it is, by CPUID's vendor, family and model."""

from __future__ import annotations

from dataclasses import dataclass

#: Zen: AMD Revision Guide for Family 17h Models 00h-0Fh, erratum 1096
_ZEN = ("AuthenticAMD", 0x17, range(0x10))
#: the same core by Hygon; QEMU's Dhyana is model 0 of the family
_DHYANA = ("HygonGenuine", 0x18, range(0x10))


@dataclass(frozen=True, kw_only=True)
class CpuIdentity:
    """A vCPU's identity, as its guest reads it."""

    vendor: str
    family: int
    model: int

    def __str__(self) -> str:
        return f"{self.vendor} family {self.family:x}h model {self.model:02x}h"

    @property
    def has_smap_erratum(self) -> bool:
        """Return whether it is one of the CPUs that have AMD's erratum 1096."""
        return any(
            (self.vendor, self.family) == (vendor, family) and self.model in models
            for vendor, family, models in (_ZEN, _DHYANA)
        )
