"""The exceptions of the test bed, and what each one means for a verdict.

    BedError                 a message, and a hint that fixes it
    ├── InputError           what the user gave cannot be used (exit 2)
    │   └── LackingError     a QEMU, or something in it, that is not there: verdict `skip` where a case needs it
    │       └── OtherVersionError  a version for which a case's row says nothing
    ├── UnsupportedError     cannot run here: verdict `skip`
    ├── BrokenError          no judgement was possible: verdict `broken`
    │   ├── SnapshotError    a saved state could not be used: the cell boots fresh
    │   ├── WarpError        warped time runs slower than real time: the cell runs in real time
    │   ├── BootError        the guest never reached its shell
    │   ├── ChannelError     QMP or the guest's command channel was lost or broke its protocol
    │   └── QemuLostError    QEMU was ended from outside
    ├── TakenAwayError       an option of the command line took the starting state away: `bad`
    ├── RefusedError         QEMU refused a QMP command
    ├── GuestCrashedError    panic, Oops, lockup, unasked reset: `bad` once a stimulus was given
    ├── BlockedError         a command never returns in a guest that answers otherwise: `bad` once a stimulus was given
    └── QemuCrashedError     QEMU died by its own hand: `bad` once a stimulus was given

The table from exception to verdict exists once, in `testbed.campaign.cell.judge`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from testbed.model.kernel_log import Crash


@dataclass(frozen=True, kw_only=True)
class Standing:
    """Where a process is in the kernel."""

    task: str  #: the process, and the state it is in
    stack: tuple[str, ...]  #: kernel functions, innermost first
    evidence: str
    holds: str = ""  #: which lock it likely holds, and how that is known


class BedError(Exception):
    """Say what went wrong with which thing, and how to fix it."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        #: one sentence naming what was being done, to what, and what happened
        self.message = message
        #: what to do about it, ready to be pasted where possible
        self.hint = hint


class InputError(BedError):
    """Report a user's command line, file or value that cannot be used."""


class LackingError(InputError):
    """Report a QEMU that is missing, or a machine type, device or property that a QEMU lacks."""

    def __init__(
        self, message: str, *, hint: str | None = None, lacking: str, remedy: str = "testbed qemu fetch"
    ) -> None:
        super().__init__(message, hint=hint)
        self.lacking = lacking  #: its name
        #: what provides it, unless the name is wrong
        self.remedy = remedy


class OtherVersionError(LackingError):
    """Report a kernel or QEMU of a version for which a cell says nothing; another row of its case may."""


class UnsupportedError(BedError):
    """Report something this host, QEMU or image cannot do."""


class BrokenError(BedError):
    """Report that no judgement of the guest was possible."""


class BootError(BrokenError):
    """Report a guest that never reached its shell."""


class SnapshotError(BrokenError):
    """Report a saved state that could not be used."""


class WarpError(BrokenError):
    """Report a guest whose warped time runs slower than wall time."""


class ChannelError(BrokenError):
    """Report a lost or garbled QMP connection or command channel."""


class QemuLostError(BrokenError):
    """Report a QEMU that was killed from outside."""


class TakenAwayError(BedError):
    """Report a starting state that the hardware offers but a command-line option took from the guest."""

    def __init__(self, lost: str, options: Sequence[str], *, evidence: str) -> None:
        super().__init__(f"{lost}; suspect: {' '.join(options)}")
        self.lost = lost  #: what of it, in words
        self.options = tuple(options)
        self.evidence = evidence


class RefusedError(BedError):
    """Report a QMP command that QEMU refused."""

    def __init__(self, command: str, description: str, *, evidence: str) -> None:
        super().__init__(f"QEMU refused {command}: {description}")
        self.description = description  #: QEMU's own words
        self.evidence = evidence  #: the reply's line in qmp.jsonl


class MigrationError(BedError):
    """Report a migration that one of its two QEMUs refused or gave up."""

    def __init__(self, words: str, *, evidence: str) -> None:
        super().__init__(f"migration: {words}")
        self.words = words  #: QEMU's own, with the side that said them
        self.evidence = evidence


class GuestCrashedError(BedError):
    """Report a guest that panicked, Oopsed, locked up or reset unasked."""

    def __init__(self, crash: Crash, words: str, *, evidence: str) -> None:
        super().__init__(f"the guest crashed ({crash.value}): {words}")
        self.crash = crash
        self.words = words
        self.evidence = evidence


class BlockedError(BedError):
    """Report a command that does not return, in a guest that answers otherwise."""

    def __init__(
        self,
        command: str,
        task: str,
        *,
        stack: Sequence[str],
        evidence: str,
        others: Sequence[Standing] = (),
        pid: int = 0,
    ) -> None:
        within = f" in {stack[0]}" if stack else ""
        holders = "".join(f"; {each.task} and {each.holds}" for each in others if each.holds)
        super().__init__(f"{command!r} does not return, while the guest answers: {task}{within}{holders}")
        self.task = task  #: its process, and the state it is in
        self.stack = tuple(stack)  #: the kernel functions it stands in, innermost first
        self.evidence = evidence
        self.pid = pid  #: the number of its process
        #: the process that likely holds what it waits for, if that is known, and others that cannot be killed either
        self.others = tuple(others)

    @property
    def standing(self) -> tuple[Standing, ...]:
        """Return where its process is, and then where the others are."""
        return (Standing(task=self.task, stack=self.stack, evidence=self.evidence), *self.others)


class QemuCrashedError(BedError):
    """Report a QEMU that aborted or was killed by its own fault."""
