"""Who has a function through VFIO: a process of the test bed's own, and whoever has an IOMMU group open.

Source: Documentation/driver-api/vfio.rst; vfio_unregister_group_dev() in drivers/vfio/vfio_main.c waits for the holder.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from testbed.model.errors import BrokenError

if TYPE_CHECKING:
    from testbed.actions.passthrough import Bound
    from testbed.guest.guest import Guest
    from testbed.guest.shell import Command

#: guest seconds until the holder has the function: the kernel resets it first
_HOLD_SECONDS = 30.0
NOBODY = "nobody"
_POLL_SECONDS = 0.1


@dataclass(frozen=True, kw_only=True)
class Openers:
    """The processes that have an IOMMU group open."""

    names: str  #: `pid 112 qemu-system-x86`, several with commas between; `nobody`
    evidence: str


async def openers(guest: Guest, group: str) -> Openers:
    """Return who has an IOMMU group open: who has a function of it, or is about to take one."""
    script = (
        f'for fd in /proc/[0-9]*/fd/*; do [ "$(readlink $fd)" = /dev/vfio/{group} ] || continue; '
        "process=${fd%/fd/*}; read -r name < $process/comm; echo pid ${process#/proc/} $name; done"
    )
    result = await guest.shell.run(script)
    return Openers(names=", ".join(result.text.splitlines()) or NOBODY, evidence=result.evidence)


async def hold(guest: Guest, bound: Bound, answer: str, *, path: str = "") -> Command:
    """Have a process take a function that vfio-pci drives, and return it once it has it.

    `answer` is what it does when the kernel wants the function back: `deaf` has not asked to be told, `lets-go` ends,
    and with a `path` it reads that file first. Raises BrokenError with its words if it cannot have the function.
    """
    words = ("hold-vfio", f"/dev/vfio/{bound.group}", str(bound.bdf), answer, path)
    holder = await guest.shell.start_verb(*filter(None, words))
    said = bytearray()
    holder.follow(said.extend)
    end = guest.shell.seconds + _HOLD_SECONDS
    while b"held" not in said and not holder.ended and guest.shell.seconds < end:
        await guest.shell.sleep(_POLL_SECONDS)
    if b"held" not in said:
        raise BrokenError(f"holding {bound.bdf} through VFIO: {said.decode('utf-8', 'replace').strip() or 'no answer'}")
    return holder


async def ended_within(guest: Guest, command: Command, seconds: float) -> bool:
    """Return whether a command has ended by then, in guest seconds."""
    end = guest.shell.seconds + seconds
    while not command.ended and guest.shell.seconds < end:
        await guest.shell.sleep(_POLL_SECONDS)
    return command.ended
