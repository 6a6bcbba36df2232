"""What /bin/mmio-probe printed: the times and values of completed accesses, or what kept it from them."""

from __future__ import annotations

import errno
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING

from testbed.actions.register import Route
from testbed.model.errors import BrokenError, InputError

if TYPE_CHECKING:
    from testbed.actions.register import Register
    from testbed.guest.shell import Result


@dataclass(frozen=True, kw_only=True)
class Timing:
    """What completed accesses took, and what they read."""

    first: int
    last: int
    count: int
    min_ns: int
    mean_ns: int
    max_ns: int


def read_timing(result: Result, register: Register) -> Timing | None:
    """Return what the program printed, None if a signal ended it.

    Raises InputError or BrokenError with what kept it from the access.
    """
    if result.status < 0:
        return None
    if result.status:
        raise _refused(result, register)
    try:
        pairs = dict(word.split("=", 1) for word in result.text.split())
        return Timing(**{key: int(text, 0) for key, text in pairs.items()})
    except (ValueError, TypeError):
        raise BrokenError(f"probe: {register.access}: it printed {result.text[:200]!r}") from None


def fault_name(result: Result) -> str:
    """Return the signal that ended the program: SIGBUS; empty if none did."""
    return signal.Signals(-result.status).name if result.status < 0 else ""


def _refused(result: Result, register: Register) -> InputError | BrokenError:
    """Build the error of a program that could not make its access."""
    step, _, number = result.error.partition(" failed, errno ")
    code = int(number) if number.isdecimal() else 0
    words = f"{register.access}: {step}: {errno.errorcode.get(code, number or result.error)}"
    route = register.access.route
    if (step, code) in (("mmap", errno.EINVAL), ("open", errno.EBUSY), ("read", errno.EPERM), ("write", errno.EPERM)):
        why = "the BAR is in use by a driver, and the kernel keeps others from it (CONFIG_IO_STRICT_DEVMEM)"
        return InputError(f"{words}: {why}", hint="unbind the driver: echo ADDRESS > …/driver/unbind; or iomem=relaxed")
    if route is Route.DEVMEM and code == errno.EFAULT:
        why = "/dev/mem has read and write only below the end of memory"
        return InputError(f"{words}: {why}", hint="use --route kernel, or more memory: -p memory=6144")
    return BrokenError(f"probe: {words}")
