"""Obstacles to passing a host's function, read from the host's state rather than from messages.

Source: Documentation/driver-api/vfio.rst (viable groups); drivers/vfio/vfio_iommu_type1.c (interrupt remapping);
arch/x86/kernel/apic/msi.c: a remapped interrupt's chip is called IR-….
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.actions.passthrough import VFIO, bound_to, group_of
from testbed.actions.vfio_holder import NOBODY, openers
from testbed.model.outcome import Finding

if TYPE_CHECKING:
    from testbed.guest.guest import Guest
    from testbed.model.pci import Bdf

#: vfio does without interrupt remapping if it is Y
UNSAFE = "/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts"
_GROUP, _DRIVERS, _OPEN, _REMAPPING = (
    "its IOMMU group",
    "drivers in its group",
    "who has its group open",
    "interrupt remapping",
)
_SOME, _OURS, _ON = "one", f"{VFIO} or none", "on, or done without"
#: the outcome of a refusal by what stands in the way
_OUTCOMES = {_GROUP: "no-group", _DRIVERS: "group-in-use", _OPEN: "group-open", _REMAPPING: "no-remapping"}


async def obstacles(host: Guest, function: Bdf) -> list[Finding]:
    """Return the possible obstacles to passing a function, each as a finding of whether it applies."""
    bound = await bound_to(host, function)
    found = [
        Finding(subject=_GROUP, expected=_SOME, observed="one" if bound.group else "none", evidence=bound.evidence)
    ]
    if bound.group:
        found += [await _drivers(host, function), await _opened(host, bound.group)]
    return [*found, await _remapping(host)]


def refusal_outcome(findings: list[Finding]) -> str:
    """Return the outcome of a refusal: the first obstacle there was; `refused` if none of them stood in the way."""
    standing = [each.subject for each in findings if each.subject in _OUTCOMES and each.observed != each.expected]
    return _OUTCOMES[standing[0]] if standing else "refused"


async def _drivers(host: Guest, function: Bdf) -> Finding:
    bounds = [await bound_to(host, each) for each in await group_of(host, function)]
    others = [f"{each.bdf} {each.driver}" for each in bounds if each.driver not in ("", VFIO)]
    observed = ", ".join(others) or _OURS
    return Finding(subject=_DRIVERS, expected=_OURS, observed=observed, evidence=bounds[-1].evidence)


async def _opened(host: Guest, group: str) -> Finding:
    who = await openers(host, group)
    return Finding(subject=_OPEN, expected=NOBODY, observed=who.names, evidence=who.evidence)


async def _remapping(host: Guest) -> Finding:
    result = await host.shell.run(f"grep -c 'IR-' /proc/interrupts; cat {UNSAFE}")
    count, _, unsafe = result.text.partition("\n")
    observed = _ON if count != "0" or unsafe.strip() == "Y" else "off"
    return Finding(subject=_REMAPPING, expected=_ON, observed=observed, evidence=result.evidence)
