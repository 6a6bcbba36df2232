"""Frames by which a shell on a console answers exactly, however much else is printed there.

Whatever a kernel or an init prints into an answer is inserted between two of its bytes; nothing is lost or changed. So
an answer is written in bytes that messages in English do not have (0xBC to 0xFF, eight-bit on the line), and all
others are dropped. It comes in numbered lines under a checksum: what words in another alphabet have damaged is asked
for again.

    ID:NUMBER:TEXT~     a line of the answer; NUMBER counts from 1
    ID:0:LINES:SHA256~  its end; twice

The answer is `STATUS:BEGAN:ENDED` (of the guest's uptime, in centiseconds), the output in base64, a line `:`, and what
the command complained, in base64.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass, field
from itertools import islice

_PLAIN = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=:~\n"
_CODED = bytes([*range(0xC0, 0x100), 0xBF, 0xBE, 0xBD, 0xBC])
_OTHERS = bytes(set(range(0x100)) - set(_CODED))
_LINE = re.compile(rb"([0-9]{1,9}):([0-9]{1,9}):([A-Za-z0-9+/=:]*)~")
_END = re.compile(rb"([0-9]{1,9}):([0-9a-f]{64})")
#: what base64 breaks its lines after
_WIDTH = 76
#: characters of an answer's line that was never ended
_LONGEST = 1 << 12

#: What a POSIX shell is told, in one line. `tbr ID COMMAND` runs a command given in base64 and sends its answer,
#: `tbc PART` says the begin of a long one before, `tbx ID 'NUMBER…'` sends lines of an answer again. What is typed
#: while a command runs is not for that.
SERVE = (
    "stty -echo cs8 -istrip; trap : INT; for d in /run /dev/shm /tmp; do [ -w $d ] && break; done; T=$d/testbed.$$; "
    'tbs(){ n=0; while IFS= read -r l; do n=$((n+1)); case " $2 " in "  "|*" $n "*) echo "$1:$n:$l~";; esac; '
    'done <$T.m; echo "$1:0:$n:$H~"; echo "$1:0:$n:$H~"; }; '
    r"""tbx(){ tbs "$@" | tr 'A-Za-z0-9+/=:~\n' '\300-\377\277\276\275\274'; echo; }; """
    "tbu(){ read -r u x </proc/uptime; u=${u%.*}${u#*.}; }; "
    'B=; tbc(){ B=$B$1; }; tbr(){ C=$(echo "$B$2" | base64 -d); B=; tbu; U=$u; '
    '(eval "$C") </dev/null >$T.o 2>$T.e; S=$?; tbu; '
    '{ echo $S:$U:$u; base64 <$T.o; echo :; base64 <$T.e; } >$T.m; H=$(sha256sum <$T.m); H=${H%% *}; tbx "$1"; }; '
    'echo testbed-$((40+2))-ready; while :; do IFS= read -r L && eval "$L"; done'
)
#: what it says when it listens; the line that was typed does not have these words
READY = "testbed-42-ready"
#: characters of a line that a terminal surely takes (N_TTY_BUF_SIZE, drivers/tty/n_tty.c)
_TYPED = 4000


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a command came to."""

    status: int
    began: float  #: guest seconds
    ended: float
    stdout: bytes
    stderr: bytes


@dataclass(kw_only=True)
class AnswerFrames:
    """The frames of one answer, as far as they have come."""

    number: int  #: of the command
    lines: dict[int, bytes] = field(default_factory=dict)
    count: int | None = None  #: how many there are; None before an end has come
    digest: bytes = b""
    ends: int = 0  #: how many ends have come
    begun: bool = False  #: whether something of it has come, whole or damaged
    _rest: bytes = b""

    def feed(self, data: bytes) -> None:
        """Take what came on the console."""
        plain = data.translate(_DECODE, _OTHERS)
        *lines, rest = (self._rest + plain).split(b"\n")
        self.begun = self.begun or b"%d:" % self.number in self._rest + plain
        self._rest = rest[-_LONGEST:]
        for line in lines:
            if match := _LINE.fullmatch(line):
                self._take(int(match[1]), int(match[2]), match[3])

    def _take(self, number: int, line: int, text: bytes) -> None:
        if number != self.number:
            return  # of a command that was given up
        if line:
            self.lines.setdefault(line, text)
        elif match := _END.fullmatch(text):
            self.count, self.digest = int(match[1]), match[2]
            self.ends += 1

    @property
    def missing(self) -> list[int]:
        """Return the first lines that have not come, by number; before an end came all are missing, and none is named.

        There are no more than can be asked for at once: the count is the guest's word, and may be any.
        """
        numbers = range(1, (self.count or 0) + 1)
        return list(islice((each for each in numbers if each not in self.lines), _TYPED))

    def answer(self) -> Answer | None:
        """Return the answer if it is there and whole; forget of a damaged one what may be damaged."""
        if self.count is None or self.missing:
            return None
        text = b"".join(self.lines[each] + b"\n" for each in range(1, self.count + 1))
        if hashlib.sha256(text).hexdigest().encode() == self.digest:
            return _parsed(text)
        whole = {number: line for number, line in self.lines.items() if len(line) == _WIDTH}
        # what still is as long as it should be may be damaged too
        self.lines = whole if len(whole) < len(self.lines) else {}
        self.count = None
        return None


_DECODE = bytes.maketrans(_CODED, _PLAIN)
_ENCODE = bytes.maketrans(_PLAIN, _CODED)


def encoded(text: bytes) -> bytes:
    """Return what the guest's `tr` makes of frames."""
    return text.translate(_ENCODE)


def typed_command(number: int, command: str) -> list[bytes]:
    """Return the lines that ask for a command, the last of which has it run."""
    text = base64.b64encode(command.encode())
    most = _TYPED - 40
    parts = [text[at : at + most] for at in range(0, len(text), most)] or [b""]
    return [*(b"tbc %s\n" % part for part in parts[:-1]), b"tbr %d '%s'\n" % (number, parts[-1])]


def without_frames(data: bytes) -> bytes:
    """Return what people read of a console on which frames are sent."""
    return data.translate(None, _CODED)


def typed_again(number: int, missing: list[int]) -> bytes:
    """Return the line that asks for lines of an answer again, for all if none is named, but no more than fit."""
    named = " ".join(map(str, missing))[: _TYPED - 40]
    whole = named if len(named) < _TYPED - 40 else named.rpartition(" ")[0]
    return f"tbx {number} '{whole}'\n".encode()


def _parsed(text: bytes) -> Answer | None:
    try:
        head, _, rest = text.partition(b"\n")
        status, began, ended = map(int, head.split(b":"))
        stdout, _, stderr = (b"\n" + rest).partition(b"\n:\n")
        return Answer(
            status=status,
            began=began / 100,
            ended=ended / 100,
            stdout=base64.b64decode(stdout),
            stderr=base64.b64decode(stderr),
        )
    except (ValueError, OverflowError, binascii.Error):
        return None
