"""FrameSender: a network card kept busy by numbered frames that come back, and how many of them did not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.guest.load import BusyVerbs

if TYPE_CHECKING:
    from testbed.guest.guest import Guest
    from testbed.guest.load import Tally


def lost_frames(tally: Tally) -> int:
    """Return how many frames did not come back, those that the kernel did not take among them."""
    return tally.counts.get("sent", 0) - tally.done


async def start_frames(guest: Guest, interface: str, *, peer: str = "") -> BusyVerbs:
    """Send a hundred frames a second; `peer` is the card on the same hub that sees them, if no gateway answers."""
    guest.machine.journal.step(
        "say", f"the test bed's init sends frames on {interface} all the time, not repeated here"
    )
    words = [interface, *([peer] if peer else [])]
    return BusyVerbs([await guest.shell.start_verb("send-frames", *words)])
