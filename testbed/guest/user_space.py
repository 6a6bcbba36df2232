"""The user space of a customer's disk: when it is up, and what it says of itself."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from testbed.model.errors import BrokenError
from testbed.model.printable import harmless

if TYPE_CHECKING:
    from testbed.guest.guest import Guest

RUNNING = "running"
#: guest seconds in which systemd must have started what it is to start
_LIMIT = 600
_HINT = "to start without that report, name the guest seconds to wait: --whole-wait SECONDS"
#: systemd answers once it has read its units; `degraded` is running, with units that failed
_WAIT = (
    "until systemctl is-system-running 2>/dev/null | grep -qx -e running -e degraded; do "
    f"[ $(cut -d. -f1 /proc/uptime) -lt {_LIMIT} ] || exit 1; sleep 1; done"
)
#: as ext4, vfat and xfs have it
_CHECK = re.compile(r"fsck is recommended|run fsck|rectify the problem")
_LOOK = """\
. /etc/os-release 2>/dev/null || . /usr/lib/os-release 2>/dev/null; echo "$PRETTY_NAME"
readlink /proc/1/exe
systemctl is-system-running 2>/dev/null
systemctl list-units --state=failed --plain --no-legend 2>/dev/null | cut -d' ' -f1
"""


@dataclass(frozen=True, kw_only=True)
class UserSpace:
    """What runs in a guest that is not the test bed's own."""

    name: str  #: of its os-release
    init: str  #: the program of process 1
    state: str  #: what systemd says; empty for another init
    failed: tuple[str, ...]  #: systemd's units
    seconds: float  #: guest time when it was looked at
    advice: str = ""  #: what the kernel says of a file system that ought to be checked

    def __str__(self) -> str:
        state = f" {self.state}" if self.state else ""
        advice = f"; the kernel says: {self.advice}" if self.advice else ""
        failed = f" (failed: {', '.join(self.failed)})" if self.failed else ""
        return harmless(
            f"{self.name or 'no os-release'}: {self.init}{state}{failed} after {self.seconds:.0f} s{advice}"
        )


async def settled(guest: Guest, when: str) -> UserSpace:
    """Wait until the user space is `running`, or so many seconds old; return what it is then.

    Raises BrokenError if it does not come to that, or cannot say.
    """
    shell = guest.shell
    if when == RUNNING:
        if (await shell.run("command -v systemctl")).status:
            raise BrokenError("--whole: the disk's system has no systemd to report when it is up", hint=_HINT)
        guest.machine.journal.step("guest", _WAIT)
        if (await shell.run(_WAIT, patience=2.0 * _LIMIT)).status:
            jobs = (await shell.run("systemctl list-jobs --no-legend --plain | head -5")).text
            raise BrokenError(
                f"--whole: the disk's system is not running after {_LIMIT} s; its jobs: {harmless(jobs) or 'none'}",
                hint=_HINT,
            )
    else:
        left = float(when) - await shell.clock()
        if left > 0:
            guest.machine.journal.step("guest", f"sleep {left:.0f}")
            await shell.sleep(left)
    return await look(guest)


async def look(guest: Guest) -> UserSpace:
    """Return what runs in a guest."""
    shell = guest.shell
    result = await shell.run(f"sh -c {shlex.quote(_LOOK)}")
    name, init, *rest = [*result.text.split("\n"), "", ""]
    state, *failed = [line for line in rest if line] or [""]
    await shell.catch_up()
    advice = next((record.text for record in shell.log.records if _CHECK.search(record.text)), "")
    return UserSpace(name=name, init=init, state=state, failed=tuple(failed), seconds=shell.seconds, advice=advice)
