"""Why Linux got no control of a host bridge's services at all: what was missing, refused, disabled or kept.

Each cause is told by the lines that `_OSC` leaves (testbed.model.osc has how they come about). An option is suspect
only if it is on the command line; if that is not known, the options are possible as well as the kernel's configuration.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from testbed.explain.suspect import COMPAT, NATIVE, Blame, Cause, Suspect, option

if TYPE_CHECKING:
    from collections.abc import Iterable

    from testbed.explain.evidence import Evidence
    from testbed.model.osc import OscNegotiation

#: the options that take a bit out of `_OSC: OS supports`
_TAKE_AWAY = {
    "ASPM": ("pcie_aspm=off",),
    "ClockPM": ("pcie_aspm=off",),
    "MSI": ("pci=nomsi",),
    "ExtendedConfig": ("pci=nommconf", "pci=conf1"),
}
_CONFIG = {
    "ASPM": ("CONFIG_PCIEASPM is not set", "a kernel without it supports neither ASPM nor ClockPM"),
    "MSI": ("CONFIG_PCI_MSI is not set", "a kernel without it does not support MSI"),
}
#: pcie_ports_disabled is a constant true without it: include/linux/pci.h
_NO_PORTBUS = ("CONFIG_PCIEPORTBUS is not set", "a kernel without it has no port services, and so asks for no control")
_ASPM_DISABLED = re.compile(r"^PCIe ASPM is disabled")
_NO_MSI = re.compile(r"FADT declares .{0,40}MSI")
_NO_ECAM = re.compile(
    r"MMCONFIG.{0,120}(?:not reserved|not using)|not using (?:MMCONFIG|ECAM)|ECAM.{0,120}not reserved"
)


def refusal(osc: OscNegotiation, evidence: Evidence) -> Cause | None:
    """Return why Linux got no control at all from a host bridge; None if it got some, or nothing is known."""
    if osc.controls is not None:
        return None
    cause = None
    if osc.not_granted or osc.failure == "AE_SUPPORT":
        cause = _not_granted(osc)
    elif osc.failure or osc.support_failed or osc.request_failed:
        cause = _failed(osc, evidence)
    # up to 3.11 a mask of all that is required says that the port services are disabled
    elif osc.ports_disabled or (osc.not_requested and osc.supports is not None and not osc.missing_support):
        cause = _disabled(osc, evidence)
    elif osc.missing_support:
        cause = _missing(osc, evidence)
    elif osc.not_requested:
        cause = _unnamed(osc, evidence)
    return cause


def _disabled(osc: OscNegotiation, evidence: Evidence) -> Cause:
    """Report port services that are disabled: by an option that is on the line, else by the kernel's configuration."""
    cited = osc.where("ports_disabled", "not_requested")
    suspects: tuple[Suspect, ...] = ()
    if evidence.has(COMPAT) or evidence.cmdline is None:
        suspects += (option(COMPAT, _with_cmdline(evidence, cited)),)
    if not evidence.has(COMPAT):
        suspects += (_kernel(*_NO_PORTBUS, cited),)
    # without compat the missing bits would do the same, unless pcie_ports=native stands beside them
    also = () if evidence.has(NATIVE) else _takers(osc, evidence)
    text = "the PCIe port services are disabled, so Linux asked for no control"
    return Cause(text=text, evidence=cited, suspects=(*suspects, *also))


def _takers(osc: OscNegotiation, evidence: Evidence) -> tuple[Suspect, ...]:
    cited = _with_cmdline(evidence, osc.where("supports", "not_requested"))
    names = dict.fromkeys(name for bit in osc.missing_support for name in _TAKE_AWAY[bit] if evidence.has(name))
    return tuple(option(name, cited) for name in names)


def _missing(osc: OscNegotiation, evidence: Evidence) -> Cause:
    missing = osc.missing_support
    cited = osc.where("supports", "not_requested")
    if evidence.is_plain(osc):
        why = " without ECAM" if "ExtendedConfig" in missing else ""
        text = f"{osc.bridge} is a plain PCI host bridge{why}: that Linux asks for no control is normal there"
        return Cause(text=text, evidence=cited, normal=True)
    return Cause(
        text=f"_OSC: OS supports lacks {' '.join(missing)}",
        evidence=cited,
        suspects=_takers(osc, evidence) or tuple(_beyond_options(missing, evidence, cited)),
    )


def _unnamed(osc: OscNegotiation, evidence: Evidence) -> Cause:
    """Report a request that was not made, where the line that says what Linux lacks is not there."""
    cited = osc.where("not_requested")
    if evidence.is_plain(osc):
        text = f"{osc.bridge} is a plain PCI host bridge: that Linux asks for no control is normal there"
        return Cause(text=text, evidence=cited, normal=True)
    names = dict.fromkeys(name for each in _TAKE_AWAY.values() for name in each if evidence.has(name))
    suspects = tuple(option(name, _with_cmdline(evidence, cited)) for name in names)
    if not suspects:
        name, why = "a feature that Linux requires is missing", "the line 'OS supports' would say which one"
        suspects = (_kernel(name, why, cited),)
    return Cause(text="Linux asked for no control", evidence=cited, suspects=suspects)


def _beyond_options(missing: tuple[str, ...], evidence: Evidence, cited: tuple[str, ...]) -> Iterable[Suspect]:
    """Suspect what takes a bit away where no known option of the command line does.

    Without a command line the options are possible as well; a log says of pcie_aspm=off that it was given.
    """
    by_option = evidence.cmdline is None
    if "ASPM" in missing:
        disabled = _lines(evidence, _ASPM_DISABLED)
        if by_option:
            yield option("pcie_aspm=off", (*disabled, *cited))
        if disabled and not by_option:
            why = "the kernel says so, and its command line does not ask for it"
            yield _kernel("ASPM is disabled", why, (*disabled, *cited))
        elif not disabled:
            yield _kernel(*_CONFIG["ASPM"], cited)
    if "MSI" in missing:
        disabled = _lines(evidence, _NO_MSI)
        if by_option and not disabled:
            yield option("pci=nomsi", cited)
        if disabled:
            yield _firmware("MSI is switched off", "the kernel says so", (*disabled, *cited))
        else:
            yield _kernel(*_CONFIG["MSI"], cited)
    if "ExtendedConfig" in missing:
        if by_option:
            yield option("pci=nommconf", cited)
        why = "a PCI Express host bridge whose ECAM Linux does not use: its MCFG table is missing or not trusted"
        yield _firmware("no usable ECAM", why, (*_lines(evidence, _NO_ECAM), *cited))


def _not_granted(osc: OscNegotiation) -> Cause:
    """Report a platform that keeps what Linux requires; AE_SUPPORT is then the kernel's own status."""
    cited = osc.where("not_granted", "failure", "requested", "granted")
    by_mask = () if "PCIeCapability" in (osc.granted or ()) else ("PCIeCapability",)
    kept = " ".join(osc.not_granted or by_mask) or "all that Linux requested"
    return Cause(
        text=f"the platform does not grant {kept}, without which Linux requests nothing",
        evidence=cited,
        suspects=(_firmware(f"the firmware keeps {kept}", "no option changes what it grants", cited),),
    )


def _failed(osc: OscNegotiation, evidence: Evidence) -> Cause:
    cited = osc.where("failure", "support_failed", "request_failed", "method_failed", "requested", "granted")
    if evidence.is_plain(osc):
        text = f"{osc.bridge} is a plain PCI host bridge without _OSC: that is normal and proves nothing"
        return Cause(text=text, evidence=cited, normal=True)
    text, name, why = _failure_words(osc)
    return Cause(text=text, evidence=cited, suspects=(_firmware(name, why, cited),))


def _failure_words(osc: OscNegotiation) -> tuple[str, str, str]:
    """Return what happened, what to call it, and why it matters."""
    leaves = "and then Linux leaves everything to it"
    requested = f"Linux requested {' '.join(osc.requested)}" if osc.requested else "Linux requested control"
    if osc.failure == "AE_NOT_FOUND" and not osc.method_failed:
        return "the firmware has no _OSC method for this bridge", "no _OSC method", f"the firmware lacks it, {leaves}"
    if osc.support_failed or (osc.failure and osc.requested is None):
        status = f" with {osc.failure}" if osc.failure else ""
        absent = "" if osc.method_failed else ", or has no _OSC method"
        text = f"the firmware failed{status} the _OSC call that tells it what Linux supports"
        why = f"it refuses the call{'' if osc.failure else absent}, {leaves}"
        return text, f"_OSC refuses what Linux supports{status}", why
    if not osc.failure:
        return f"{requested}, and the platform granted nothing", "_OSC grants nothing", f"no control is given, {leaves}"
    text = f"{requested}, and _OSC failed with {osc.failure}"
    return text, f"_OSC fails with {osc.failure}", f"its _OSC method failed, {leaves}"


def _lines(evidence: Evidence, pattern: re.Pattern[str]) -> tuple[str, ...]:
    return tuple(record.reference for _, record in evidence.log.find(pattern)[:2]) if evidence.log else ()


def _kernel(name: str, why: str, evidence: tuple[str, ...]) -> Suspect:
    return Suspect(name=name, blame=Blame.KERNEL, why=why, evidence=evidence)


def _firmware(name: str, why: str, evidence: tuple[str, ...]) -> Suspect:
    return Suspect(name=name, blame=Blame.FIRMWARE, why=why, evidence=evidence)


def _with_cmdline(evidence: Evidence, cited: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys([evidence.cmdline_at, *cited])) if evidence.cmdline_at else cited
