"""What `_OSC` says of one service: handed over to Linux, kept by the platform, not asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.explain.holder import Control, Holder, row
from testbed.explain.service import DPC, LTR, SHPC, Service, Signs
from testbed.explain.suspect import NO_PORTDRV, Blame, Cause, Suspect, option

if TYPE_CHECKING:
    from testbed.explain.evidence import Evidence
    from testbed.model.osc import OscNegotiation


def by_osc(service: Service, osc: OscNegotiation) -> Control:
    """Return that Linux has a service because it was handed over."""
    return row(service, Holder.LINUX, f"the platform handed over {service.bit}", osc.where("controls"))


def unknown(service: Service, osc: OscNegotiation, signs: Signs) -> Control:
    """Return who has a service of whose negotiation the end is not in the log."""
    if signs.running:
        return row(service, Holder.LINUX, "; ".join(signs.running), signs.running_at)
    return row(service, Holder.UNKNOWN, "the log does not show how the negotiation ended", osc.references)


def is_kept(service: Service, osc: OscNegotiation) -> bool:
    """Return whether the platform kept what Linux requested; up to 3.11 only the two masks say so."""
    requested = osc.controls is not None and service.bit in (osc.requested or ()) and service.bit not in osc.controls
    return requested or service.bit in osc.platform_lacks


def kept_at(osc: OscNegotiation) -> tuple[str, ...]:
    """Return the lines that show what the platform kept."""
    return osc.where("platform_lacks") if osc.platform_lacks else osc.where("requested", "controls")


def not_asked(service: Service, osc: OscNegotiation) -> Cause:
    """Return why Linux did not ask for a service while it asked for others."""
    cited = osc.where("controls")
    text = f"Linux got other control and did not ask for {service.bit}"
    if osc.assumed:
        text = f"Apple's firmware keeps {service.bit}, and is not asked for it"
        return Cause(text=text, evidence=cited)
    if service in (SHPC, LTR, DPC):
        return Cause(text=text, evidence=cited, normal=True)
    suspect = Suspect(
        name=f"{service.config} is not set", blame=Blame.KERNEL, why="such a kernel never asks for it", evidence=cited
    )
    return Cause(text=text, evidence=cited, suspects=(suspect,))


def no_portdrv(evidence: Evidence) -> Cause:
    """Return that the command line keeps the port driver from starting."""
    suspect = option(NO_PORTDRV, evidence.cmdline_lines)
    return Cause(text="the PCIe port driver was kept from starting", evidence=suspect.evidence, suspects=(suspect,))
