"""The ARI capability: 256 functions and no device numbers on a link.

Source: PCIe Base 6.3, sections 6.13 and 7.8.8.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from testbed.model import capabilities

if TYPE_CHECKING:
    from testbed.model.config_space import ConfigSpace

LENGTH = 8


@dataclass(frozen=True, kw_only=True)
class Ari:
    """The ARI capability of a function."""

    offset: int
    next_function: int  #: 0 ends the list


def read_ari(space: ConfigSpace) -> Ari | None:
    """Return the function's ARI capability, or None if it has none that fits."""
    found = space.extended.find(capabilities.ARI)
    if not found or not space.fits(found.offset, LENGTH):
        return None
    return Ari(offset=found.offset, next_function=space.u8(found.offset + 5))
