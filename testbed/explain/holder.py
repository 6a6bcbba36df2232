"""Who has a service below a host bridge, and why."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from testbed.explain.service import Service
    from testbed.explain.suspect import Suspect


class Holder(enum.StrEnum):
    """Who has a service."""

    LINUX = "Linux"
    ACPI = "ACPI"  #: the platform, with acpiphp doing its work in Linux
    PLATFORM = "platform"
    NOBODY = "nobody"
    UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True)
class Control:
    """Who has one service below one host bridge."""

    bridge: str
    service: str
    holder: Holder
    driver: str
    why: str
    evidence: tuple[str, ...]
    suspects: tuple[Suspect, ...] = ()


def row(
    service: Service,
    holder: Holder,
    why: str,
    evidence: Iterable[str],
    *,
    bridge: str = "",
    driver: str = "",
    suspects: tuple[Suspect, ...] = (),
) -> Control:
    """Return who has a service; the driver is the service's own where Linux has it."""
    return Control(
        bridge=bridge,
        service=service.name,
        holder=holder,
        driver=driver or (service.driver if holder is Holder.LINUX else ""),
        why=why,
        evidence=tuple(dict.fromkeys(evidence)),
        suspects=suspects,
    )
