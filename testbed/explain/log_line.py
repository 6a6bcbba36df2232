"""One line of a kernel log as people save it: dmesg in all its formats, journalctl, syslog, a console, /dev/kmsg.

Source: util-linux sys-utils/dmesg.c, systemd src/shared/logs-show.c, Linux kernel/printk/printk.c.
"""

from __future__ import annotations

import re

from testbed.model.kernel_log import parse_record

_LEVEL = r"(?:<[0-9]{1,3}>)?"
_MONTH_DAY = r"[A-Z][a-z]{2} [ 0-9][0-9]"
_CLOCK = r"[0-9]{2}:[0-9]{2}:[0-9]{2}"
_ISO = r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9:.,+Z-]{8,24}"
_ISO_DMESG = rf"[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}T{_CLOCK},[0-9]{{6}}[+-][0-9]{{2}}:[0-9]{{2}}"

#: `[    0.123456] `, with a level before it, with a thread's or CPU's number after it (CONFIG_PRINTK_CALLER)
_STAMPED = re.compile(
    rf"\s{{0,8}}{_LEVEL}\[\s{{0,12}}([0-9]{{1,10}}\.[0-9]{{6}})\](?:\[\s{{0,8}}[TC][0-9]{{1,8}}\])? ?(.*)"
)
#: `dmesg -x`: facility and level before the stamp
_DECODED = re.compile(r"[a-z0-9]{2,8} {0,8}:[a-z]{2,8} {0,8}: ")
#: `dmesg -T`, `-H`, `--time-format delta` and `iso`, which has a comma before the microseconds
_DATED = re.compile(
    rf"(?:\[[A-Z][a-z]{{2}} {_MONTH_DAY} {_CLOCK} [0-9]{{4}}\]|\[[A-Z][a-z]{{2}}[ 0-9]?[0-9] ?[0-9]{{2}}:[0-9]{{2}}\]"
    rf"|\[\s{{0,12}}[+<][ 0-9.+]{{1,20}}>?\]|{_ISO_DMESG}) ?(.*)"
)
#: journalctl and syslog: when, which host, who
_JOURNAL = re.compile(rf"(?:{_MONTH_DAY} {_CLOCK}(?:\.[0-9]{{1,6}})?|{_ISO}) [^\s]{{1,255}} kernel: (.*)")
#: `journalctl -o short-monotonic`: the host after a stamp
_HOST = re.compile(r"[^\s]{1,255} kernel: (.*)")

#: what a log without any stamps is known by
_UNSTAMPED = re.compile(
    r"(?:Linux version [0-9]\.?[0-9]|Command line: |Kernel command line: |BIOS-e820: |ACPI: |acpi PNP0A0[38]:"
    r"|PCI host bridge to bus "
    r"|pcieport [0-9a-f]{4}:|pci [0-9a-f]{4}:[0-9a-f]{2}:)"
)


def read_line(text: str) -> tuple[float, str] | None:
    """Return the stamp in seconds (0 where there is none) and the message; None if the line is not a kernel's."""
    record = parse_record(text, line=0)
    if record:
        return record.seconds, record.text
    if match := _JOURNAL.fullmatch(text):
        return _inner(match[1])
    return _inner_stamp(_DECODED.sub("", text, count=1))


def is_log_line(text: str) -> bool:
    """Return whether a line is the kernel's by its stamp or its sender."""
    return read_line(text) is not None


def is_unstamped(text: str) -> bool:
    """Return whether a line without a stamp can only be the kernel's."""
    return _UNSTAMPED.match(text) is not None


def _inner(message: str) -> tuple[float, str]:
    """Return a journal's message without the stamp that the kernel may have put before it."""
    return _inner_stamp(message) or (0.0, message)


def _inner_stamp(text: str) -> tuple[float, str] | None:
    if match := _STAMPED.fullmatch(text):
        host = _HOST.fullmatch(match[2])
        return float(match[1]), host[1] if host else match[2]
    if match := _DATED.fullmatch(text):
        return 0.0, match[1]
    return None
