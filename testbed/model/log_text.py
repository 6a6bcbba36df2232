"""What a kernel log line says, whatever boot it stands in: without times, addresses, sizes and running numbers.

The words of Linux 4.19 to 7.1. Each pattern reads a line once; none nests quantifiers.
"""

from __future__ import annotations

import re

_NUMBER = r"[0-9]{1,20}(?:\.[0-9]{1,20})?"

#: in this order: a number with a unit may look like an address, and an address is a row of numbers
_RUNNING = (
    (re.compile(r"\b[0-9a-f]{4}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7]\b"), "<function>"),
    (re.compile(r"\b(pci_bus |pci)[0-9a-f]{4}:[0-9a-f]{2}\b"), r"\1<bus>"),
    (re.compile(r"\[(io|mem) {1,2}0x[0-9a-f]{1,16}(?:-0x[0-9a-f]{1,16})?"), r"[\1 <range>"),
    (re.compile(r"\[bus [0-9a-f]{2}(?:-[0-9a-f]{2})?\]"), "[bus <n>]"),
    (re.compile(r"\b(?:PNP0A0[38]|ACPI0016):[0-9a-f]{2}\b"), "<host bridge>"),
    (re.compile(r"\b[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9:.]{5,15}(?: ?UTC)?"), "<date>"),
    (re.compile(r"\b0x[0-9a-f]{5,16}\b", re.IGNORECASE), "<address>"),
    (re.compile(r"\(_{2,8}ptrval_{2,8}\)"), "<address>"),
    (re.compile(rf"\b{_NUMBER} ?[kKMGT](?:i?B)?\b(?:/s(?:ec)?\b)?"), "<size>"),
    (re.compile(rf"\b{_NUMBER} ?[kMG]Hz\b"), "<frequency>"),
    (re.compile(rf"\b{_NUMBER} ?(?:[mun]s(?:ecs?)?|secs?|seconds?)\b"), "<time>"),
    (re.compile(r"\b[0-9a-f]{8}(?:[0-9a-f]{8})?\b"), "<address>"),
    (re.compile(r"\b(IRQ|GSI|irq) [0-9]{1,5}\b"), r"\1 <n>"),
    (re.compile(r"\b([Ss]lot) ?(\[|\(|#)[0-9]{1,8}(?:-[0-9]{1,4})?"), r"\1 \2<n>"),
    (re.compile(r"\b(lpj|jiffies|mult|shift)([=:] ?)[0-9]{1,20}"), r"\1\2<n>"),
    (re.compile(rf"\b{_NUMBER} BogoMIPS"), "<n> BogoMIPS"),
    (re.compile(r"\b[0-9]{5,20}(?:\.[0-9]{1,20})?(?::[0-9]{1,9})?\b"), "<n>"),
)

#: what comes when it comes: by the clock, by how busy the host is, or from a thread of its own
_BY_CHANCE = re.compile(
    r"^(?:random: |input: |hrtimer: interrupt took|perf: interrupt took too long|sched_clock: Marking stable"
    r"|clocksource: |tsc: |workqueue: .* hogged CPU|audit: |rcu: INFO|Freeing initrd memory|rtc_cmos .* setting system"
    r"|psmouse |psmouse: |i8042: .*delay|sched: |watchdog: |systemd)"
)

_RELEVANT = re.compile(
    r"\b(?:pci[a-z_]{0,12}|acpi[a-z_]{0,12}|shpchp|aer|dpc|pme|_osc|aspm|msi|mmconfig|ecam|mcfg|hot-?plug"
    r"|virtio[a-z_]{0,8}[0-9]{0,3}|virtio_blk|nvme[0-9n]{0,6}|e1000e?|igb|igbvf|xhci[a-z_]{0,6}|ahci|ata[0-9.]{1,6}|scsi"
    r"|vfio[a-z_-]{0,8}|dmar|iommu|bar [0-9])(?![A-Za-z0-9])",
    re.IGNORECASE,
)
#: which function stands where with which resources: the PCI tree's facts say it in fewer words
_PLACES = re.compile(
    r"^(?:ACPI: (?:Reserving|[A-Z0-9]{4} (?:<|0x))|BIOS-e820|PM: |(?:Kernel )?[Cc]ommand line"
    r"|ACPI: PCI: Interrupt link|ACPI: \\_SB_\..{1,40} Enabled at IRQ"
    r"|pci <function>: (?:\[[0-9a-f]{4}:[0-9a-f]{4}\] type|BAR |reg 0x|PCI bridge to|  ?bridge window|bridge window)"
    r"|pci_bus <bus>: (?:resource|root bus resource))"
)
_TROUBLE = re.compile(r"can't|cannot|fail|no space|not claimed|conflict|invalid", re.IGNORECASE)


def normalised(text: str) -> str:
    """Return a line with a placeholder for whatever may differ between two boots of the same guest."""
    for pattern, placeholder in _RUNNING:
        text = pattern.sub(placeholder, text)
    return text.strip()


def is_by_chance(text: str) -> bool:
    """Return whether the same guest says this on one boot and not on the next."""
    return _BY_CHANCE.search(text) is not None


def is_relevant(text: str) -> bool:
    """Return whether a line is about PCI, ACPI, hot-plug, errors or a driver of what is plugged."""
    if _PLACES.search(text) and not _TROUBLE.search(text):
        return False
    return _RELEVANT.search(text) is not None
