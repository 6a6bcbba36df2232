"""One line of a kernel log as people save it: dmesg in all its formats, journalctl, syslog, a console, /dev/kmsg.

Source: util-linux sys-utils/dmesg.c, systemd src/shared/logs-show.c, Linux kernel/printk/printk.c. Days and months are
spelled in the language of who saved it: `août 25`, `Di Mai  7`, `5月 07`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from testbed.model.kernel_log import parse_record

_LEVEL = r"(?:<[0-9]{1,3}>)?"
_CLOCK = r"[0-9]{2}:[0-9]{2}:[0-9]{2}"
#: a day's or month's name in any language, also abbreviated with a dot
_NAME = r"[^\s\[\]:,]{1,12}"
_ISO = rf"[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}[T ]{_CLOCK}"
_ISO_DMESG = rf"{_ISO},[0-9]{{6}}[+-][0-9]{{2}}:[0-9]{{2}}"

#: `[    0.123456] `, with a level before it, with a thread's or CPU's number after it (CONFIG_PRINTK_CALLER)
_STAMPED = re.compile(
    rf"\s{{0,8}}{_LEVEL}(\[\s{{0,12}}([0-9]{{1,10}}\.[0-9]{{6}})\])(?: ?\[\s{{0,8}}[TC][0-9]{{1,8}}\])? ?(.*)"
)
#: `dmesg -x`: facility and level before the stamp
_DECODED = re.compile(r"[a-z0-9]{2,8} {0,8}:[a-z]{2,8} {0,8}: ")
#: `dmesg -T`, `-H`, `--time-format delta` and `iso`, which has a comma before the microseconds
_DATED = re.compile(
    rf"{_LEVEL}(\[(?:{_NAME} )?{_NAME} {{1,2}}[0-9]{{1,2}} {_CLOCK} [0-9]{{4}}\]"
    rf"|\[ ?{_NAME}? {{0,2}}[0-9]{{1,2}} ?[0-9]{{2}}:[0-9]{{2}}\]"
    rf"|\[\s{{0,12}}[0-9.]{{0,20}}\s{{0,3}}[+<][ 0-9.+]{{1,20}}>?\]|{_ISO_DMESG}) ?(.*)"
)
#: journalctl and syslog: when, which host, with BusyBox the facility, who
_JOURNAL = re.compile(
    rf"((?:{_NAME} {{1,2}}){{0,3}}(?:[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}[T ])?(?:[0-9]{{1,2}}\.? (?:{_NAME} )?)?{_CLOCK}"
    rf"(?:[.,][0-9]{{1,9}})?(?: ?(?:Z|[+-][0-9]{{2}}:?[0-9]{{2}}|[A-Z]{{2,5}}))?(?: [0-9]{{4}})?"
    r"|[0-9]{9,11}\.[0-9]{6})"
    r" (?:[^\s]{1,255} )?(?:[a-z0-9]{2,8}\.[a-z]{2,8} )?kernel(?:\[[0-9]{1,8}\])?: (.*)"
)
#: `journalctl -o short-monotonic` and `-o cat` with a name: the host after a stamp
_HOST = re.compile(r"(?:[^\s]{1,255} )?kernel: (.*)")

#: what a log without any stamps is known by
_UNSTAMPED = re.compile(
    r"(?:Linux version [0-9]\.?[0-9]|Command line: |Kernel command line: |BIOS-e820: |ACPI: |acpi PNP0A0[38]:"
    r"| ?pci[0-9a-f]{4}:[0-9a-f]{2}: |PCI host bridge to bus |pcie(?:hp|port) [0-9a-f]{4}:"
    r"|[a-z][a-z0-9_-]{1,20} [0-9a-f]{4,8}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7](?::pcie[0-9a-f]{2,3})?: "
    r"|\{[0-9]{1,6}\}\[Hardware Error\]: )"
)


@dataclass(frozen=True, kw_only=True)
class LogLine:
    """One message and when it was said."""

    text: str
    seconds: float = 0.0  #: since boot, the kernel's own stamp; 0 where there is none
    stamp: str = ""  #: as the line has it; empty where there is none


def read_line(text: str) -> LogLine | None:
    """Return the message of a line; None if the line is not a kernel's."""
    record = parse_record(text, line=0)
    if record:
        return LogLine(text=record.text, seconds=record.seconds, stamp=f"[{record.seconds:12.6f}]")
    if match := _JOURNAL.fullmatch(text):
        inner = _stamped(match[2])
        return LogLine(text=inner.text if inner else match[2], seconds=inner.seconds if inner else 0.0, stamp=match[1])
    return _stamped(_DECODED.sub("", text, count=1))


def is_log_line(text: str) -> bool:
    """Return whether a line is the kernel's by its stamp or its sender."""
    return read_line(text) is not None


def is_unstamped(text: str) -> bool:
    """Return whether a line without a stamp can only be the kernel's."""
    return _UNSTAMPED.match(text) is not None


def _stamped(text: str) -> LogLine | None:
    if match := _STAMPED.fullmatch(text):
        inner = _STAMPED.fullmatch(match[3]) or match
        host = _HOST.fullmatch(inner[3])
        return LogLine(text=host[1] if host else inner[3], seconds=float(inner[2]), stamp=inner[1])
    if match := _DATED.fullmatch(text):
        host = _HOST.fullmatch(match[2])
        return LogLine(text=host[1] if host else match[2], stamp=match[1])
    return None
