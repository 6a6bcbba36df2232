"""Where the stories of two cells part: the first event after the stimulus that one has and the other has not."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from testbed.campaign.record.timeline import Entry, Track
from testbed.model.json_reader import parse_json
from testbed.model.log_text import is_relevant, normalised

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

#: what QEMU says that is no answer: it follows from the bed's own housekeeping, or from any guest's
_IDLE = re.compile(
    r"event (?:STOP|RESUME|RTC_CHANGE|JOB_STATUS_CHANGE|NIC_RX_FILTER_CHANGED|MIGRATION|SHUTDOWN \{\"guest\": false)"
)
#: the bed's own housekeeping
_KEPT = re.compile(r"(?:stop|cont|quit|getfd|add-fd|migrate[a-z-]*|human-monitor-command)\b")
_ANSWERS = re.compile(r"(?:event|error) ")
_WITNESSED = re.compile(r" is (?:there|gone)$")
_HELD = "held "
_MESSAGE = re.compile(r"((?:event )?[A-Za-z_-]{1,60}) (\{.*\})")
_OWNER = "/machine/peripheral/"


@dataclass(frozen=True, kw_only=True)
class Moment:
    """One event of a story."""

    seconds: float  #: guest seconds since the request
    text: str
    evidence: str
    measured: bool = True  #: whether the guest said its time, or the bed worked it out

    @property
    def key(self) -> str:
        """Return what makes it the same event in another cell."""
        return normalised(self.text)

    def __str__(self) -> str:
        return f"{self.text} ({'' if self.measured else 'about '}+{self.seconds:.1f} s)"


@dataclass(frozen=True, kw_only=True)
class Parting:
    """Where two stories part."""

    after: str  #: the last event before it that both have
    moments: tuple[Moment | None, Moment | None]  #: the first of each side that the other has not


def story(entries: Sequence[Entry]) -> list[Moment]:
    """Return what happened from the stimulus on, as the timeline has it; nothing if it was not reached."""
    start = next((index for index, entry in enumerate(entries) if entry.stimulus), None)
    if start is None:
        return []
    after = entries[start:]
    # in warped time an idle guest lives seconds between the words and the request: count from where it was held
    begin = next((entry.guest for entry in after if entry.text.startswith(_HELD)), after[0].guest) or 0.0
    return [
        Moment(
            seconds=max((entry.guest or begin) - begin, 0.0),
            text=_words(entry.text),
            evidence=entry.evidence,
            measured=entry.measured,
        )
        for entry in after
        if _tells(entry)
    ]


def _tells(entry: Entry) -> bool:
    """Return whether an entry is part of the story: what was asked, what QEMU, the kernel and sysfs said to it."""
    match entry.track:
        case Track.ACTION:
            return not _KEPT.match(entry.text)
        case Track.QMP:
            return _ANSWERS.match(entry.text) is not None and not _IDLE.match(entry.text)
        case Track.GUEST:
            return _WITNESSED.search(entry.text) is not None
        case Track.KERNEL:
            return is_relevant(normalised(entry.text))
        case Track.MMIO:
            return "does not complete" in entry.text
        case Track.CONSOLE | Track.TRACE | Track.LEVEL2:
            return False


def _words(text: str) -> str:
    """Return a QMP message as its name and the device it is about; any other text as it is."""
    match = _MESSAGE.fullmatch(text)
    try:
        message = parse_json(match[2]) if match else {}
    except ValueError:  # it was cut
        message = {}
    if not match or not message:
        return text
    about = message.get("id") or message.get("device") or message.get("node-name") or str(message.get("path", ""))
    return f"{match[1]} {about.removeprefix(_OWNER)}".rstrip() if about else text


def parting(one: Sequence[Moment], other: Sequence[Moment]) -> Parting | None:
    """Return where two stories part; None if they tell the same, in whatever order.

    An event is shared if the other side has it too, wherever: three witnesses of one thing come as they come.
    """
    first = _unmatched(one, other), _unmatched(other, one)
    known = [(moment, side) for moment, side in zip(first, (one, other), strict=True) if moment]
    if not known:
        return None
    earliest, side = min(known, key=lambda each: each[0].seconds)
    before = side[: _place(earliest, side)]
    return Parting(after=before[-1].text if before else "", moments=first)


def _place(moment: Moment, side: Iterable[Moment]) -> int:
    return next(index for index, each in enumerate(side) if each is moment)


def _unmatched(one: Sequence[Moment], other: Sequence[Moment]) -> Moment | None:
    left = Counter(moment.key for moment in other)
    for moment in one:
        if not left[moment.key]:
            return moment
        left[moment.key] -= 1
    return None
