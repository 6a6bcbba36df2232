"""Why an error that was injected was not announced: the register that says so."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.guest.error_path import ENABLES, read_error_path
from testbed.model.aer import ErrorSeverity
from testbed.model.config_space import COMMAND_SERR
from testbed.model.express import DEVICE_CONTROL_AT

if TYPE_CHECKING:
    from testbed.actions.injection import Target
    from testbed.guest.error_path import ErrorPath
    from testbed.guest.guest import Guest


async def why_silent(guest: Guest, target: Target, severity: ErrorSeverity) -> tuple[str, str]:
    """Return the reason and where it is recorded; no evidence if the function does not answer any more."""
    path = await read_error_path(guest, target.bdf)
    if path is None:
        return f"{target.bdf} does not answer", ""
    if closed := path.closed(severity):
        own = not path.device.reports(severity)
        return closed + (await _switch_words(guest, path, severity) if own else ""), path.evidence
    return _beyond(path, severity), path.evidence


def _beyond(path: ErrorPath, severity: ErrorSeverity) -> str:
    """Say what is wrong where every enable bit is on."""
    root = path.root
    if root is None:
        return "no root port is above it: it is part of the root complex"
    if root.aer is None or root.aer.root is None:
        return f"root port {root.bdf} has no AER"
    registers = root.aer.root
    reached = f"Root Error Status of {root.bdf} is {registers.status:#010x}"
    if path.root_was_told:
        command = f"Root Error Command is {registers.command:#x}"
        return f"{reached}: the message came, but {command}: " + (
            "no driver has asked to be told" if not registers.command & 7 else "the kernel was told and said nothing"
        )
    deaf = next((each for each in path.functions if not each.space.command & COMMAND_SERR), None)
    if deaf and severity is not ErrorSeverity.CORRECTABLE:
        return f"{reached}, no message came; SERR# in Command of {deaf.bdf} ({deaf.space.command:#06x}) is off"
    return f"{reached}, no message came: every enable bit is on, this QEMU does not send {severity} errors"


async def _switch_words(guest: Guest, path: ErrorPath, severity: ErrorSeverity) -> str:
    """Try whether the function's enable bit can be switched on at all; it is left as it was."""
    bdf, bit, was = path.device.bdf, ENABLES[severity], path.device.express.control
    place = f"setpci -s {bdf} CAP_EXP+{DEVICE_CONTROL_AT:x}.w"
    read_back = await guest.shell.succeed(f"{place}={bit:04x}:{bit:04x}; {place}; {place}={was & bit:04x}:{bit:04x}")
    if int(read_back, 16) & bit:
        return f"; it can be switched on: {place}={bit:04x}:{bit:04x}"
    return ", and the bit is read-only: this device model does not implement it"
