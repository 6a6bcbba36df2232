"""The error that a person names: by QEMU's name, the kernel's, or its bit."""

from __future__ import annotations

import difflib
import re

from testbed.model.aer import CORRECTABLE, UNCORRECTABLE, AerError, ErrorRecord, ErrorSeverity
from testbed.model.errors import InputError

ERRORS = (*UNCORRECTABLE, *CORRECTABLE)
#: what can be typed, QEMU's names first: QEMU's `INTERNAL` is correctable, the kernel's internal errors are spelled out
NAMES: dict[str, AerError] = {
    **{error.kernel: error for error in ERRORS},
    **{error.qemu: error for error in ERRORS if error.qemu},
}
_NUMBER = re.compile(r"0[xX][0-9a-fA-F]{1,8}")


def find_error(name: str, severity: ErrorSeverity | None = None) -> AerError:
    """Return the error of this name or status bit (`0x8000`), as `severity` if that is given.

    A bit is looked for among the uncorrectable errors unless `severity` is correctable. Raises InputError if there is
    no such error, or none of that severity.
    """
    error = _by_bit(int(name, 16), severity) if _NUMBER.fullmatch(name) else _by_name(name)
    if severity is not None and (severity is _COR) != is_correctable(error):
        kind = "correctable" if is_correctable(error) else "uncorrectable"
        raise InputError(
            f"error {name}: is {kind} ({error_words(error)}), {severity} was asked for",
            hint=f"uncorrectable ones are: {_names(UNCORRECTABLE)}"
            if is_correctable(error)
            else f"correctable ones are: {_names(CORRECTABLE)}",
        )
    return error


def find_record(names: str, severity: ErrorSeverity | None = None) -> ErrorRecord:
    """Return the errors of `RCVR+BAD_TLP`, that a function has all at once; each is found as `find_error` does.

    Raises InputError for one that is named twice.
    """
    errors = tuple(find_error(name, severity) for name in names.split("+"))
    twice = next((each for at, each in enumerate(errors) if each in errors[:at]), None)
    if twice:
        raise InputError(f"errors {names}: {error_words(twice)} is given twice", hint="a status bit is set once")
    return ErrorRecord(errors=errors)


def record_words(record: ErrorRecord) -> str:
    """Return a record's errors by all their names."""
    return " + ".join(error_words(each) for each in record.errors)


def is_correctable(error: AerError) -> bool:
    """Return whether an error is one of the correctable ones: their status and mask are registers of their own."""
    return error.severity is _COR


def error_words(error: AerError) -> str:
    """Return an error by all its names: `COMP_ABORT, the kernel's CmpltAbrt`."""
    if error.qemu is None:
        return f"{error.kernel}, bit {error.bit}"
    return error.qemu if error.qemu == error.kernel else f"{error.qemu}, the kernel's {error.kernel}"


_COR = ErrorSeverity.CORRECTABLE


def _by_name(name: str) -> AerError:
    folded = {known.lower(): error for known, error in NAMES.items()}
    if name.lower() in folded:
        return folded[name.lower()]
    close = difflib.get_close_matches(name.lower(), list(folded), n=1)
    guess = f"did you mean {error_words(folded[close[0]])}? " if close else ""
    raise InputError(
        f"error {name!r} does not exist",
        hint=f"{guess}uncorrectable: {_names(UNCORRECTABLE)}; correctable: {_names(CORRECTABLE)}",
    )


def _by_bit(bits: int, severity: ErrorSeverity | None) -> AerError:
    wanted = CORRECTABLE if severity is _COR else UNCORRECTABLE
    other = UNCORRECTABLE if severity is _COR else CORRECTABLE
    found = next((error for error in wanted if error.mask == bits), None)
    if found:
        return found
    kinds = ("correctable", "uncorrectable") if severity is _COR else ("uncorrectable", "correctable")
    elsewhere = next((error for error in other if error.mask == bits), None)
    if elsewhere:
        flag = "without --severity correctable" if severity is _COR else "--severity correctable"
        raise InputError(
            f"error {bits:#x}: is not a {kinds[0]} error; as a {kinds[1]} one it is {error_words(elsewhere)}",
            hint=f"name it {elsewhere.qemu or elsewhere.kernel}, or give it {flag}",
        )
    raise InputError(f"error {bits:#x}: is not a single error bit", hint=f"bits of errors: {_bits()}")


def _bits() -> str:
    return ", ".join(f"{error.mask:#x} {error.kernel}" for error in ERRORS)


def _names(errors: tuple[AerError, ...]) -> str:
    return ", ".join(error.qemu or error.kernel for error in errors)
