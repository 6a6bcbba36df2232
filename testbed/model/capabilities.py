"""The ids of capabilities, and what to call them.

Source: the PCI Code and ID Assignment Specification, sections 2 and 3. Only the names people meet are here; others
print as their number.
"""

from __future__ import annotations

from testbed.model.config_space import EXPRESS_ID

MSI = 0x05
EXPRESS = EXPRESS_ID
MSIX = 0x11

AER = 0x0001
ARI = 0x000E
SRIOV = 0x0010

_STANDARD = {
    0x01: "Power Management",
    0x03: "VPD",
    MSI: "MSI",
    0x07: "PCI-X",
    0x09: "vendor specific",
    0x0C: "SHPC",
    0x0D: "subsystem ids",
    EXPRESS: "PCI Express",
    MSIX: "MSI-X",
    0x12: "SATA",
    0x13: "Advanced Features",
    0x14: "Enhanced Allocation",
}
_EXTENDED = {
    AER: "AER",
    0x0002: "Virtual Channel",
    0x0003: "serial number",
    0x000B: "vendor specific",
    0x000D: "ACS",
    ARI: "ARI",
    0x000F: "ATS",
    SRIOV: "SR-IOV",
    0x0013: "Page Request",
    0x0015: "Resizable BAR",
    0x0017: "TPH Requester",
    0x0018: "LTR",
    0x0019: "Secondary PCI Express",
    0x001B: "PASID",
    0x001D: "DPC",
    0x001E: "L1 PM Substates",
    0x001F: "PTM",
    0x0023: "DVSEC",
    0x0025: "Data Link Feature",
    0x002E: "DOE",
}


def standard_name(capability_id: int) -> str:
    """Return what a capability of the first 256 bytes is called."""
    return _STANDARD.get(capability_id, f"{capability_id:#04x}")


def extended_name(capability_id: int) -> str:
    """Return what an extended capability is called."""
    return _EXTENDED.get(capability_id, f"{capability_id:#06x}")
