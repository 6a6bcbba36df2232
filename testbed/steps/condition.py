"""Condition: something of a machine and its guest that holds or does not: an event, a log line, a file, a register."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from testbed.actions.witness import in_tree
from testbed.guest.files import show
from testbed.model.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from testbed.guest.kernel_log import KernelLog
    from testbed.machine.qmp import Event
    from testbed.model.kernel_log import LogRecord
    from testbed.steps.scene import Scene

_GLOB = re.compile(r"[*?\[]")
#: characters of what was observed that a finding quotes
_SHOWN = 300


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What a look at a condition showed."""

    holds: bool
    observed: str
    evidence: str


class Condition(Protocol):
    """One kind of thing that can be looked at."""

    @property
    def key(self) -> str:
        """Return the key it is written with."""

    def __str__(self) -> str:
        """Return what is wanted, as a finding says it."""

    async def look(self, scene: Scene) -> Seen:
        """Return whether it holds now."""


@dataclass(frozen=True, kw_only=True)
class AnswerSays:
    """The answer to the last line."""

    pattern: re.Pattern[str]
    key: str = "answer"

    def __str__(self) -> str:
        return f"the answer to have {self.pattern.pattern!r}"

    async def look(self, scene: Scene) -> Seen:
        """Search the answer."""
        said = scene.last
        return Seen(
            holds=self.pattern.search(said.text) is not None, observed=shortened(said.text), evidence=said.evidence
        )


@dataclass(frozen=True, kw_only=True)
class LogSays:
    """A line of the kernel's log, since the stimulus once that was given."""

    pattern: re.Pattern[str]
    key: str = "log"

    def __str__(self) -> str:
        return f"the kernel to say {self.pattern.pattern!r}"

    async def look(self, scene: Scene) -> Seen:
        """Search what the kernel has said."""
        await scene.hear_kernel()
        log = scene.guest.shell.log
        found = next((record for record in _lines(log, scene) if self.pattern.search(record.text)), None)
        if found is None:
            last = log.records[-1].reference if log.records else "kernel.log"
            return Seen(holds=False, observed="no such line", evidence=last)
        if scene.consuming:
            scene.taken.add(found.reference)
        return Seen(holds=True, observed=shortened(found.text), evidence=found.reference)


@dataclass(frozen=True, kw_only=True)
class EventCame:
    """A QMP event, since the stimulus once that was given."""

    name: str
    data: Mapping[str, str]
    key: str = "event"

    def __str__(self) -> str:
        return " ".join(("event", self.name, *(f"{name}={value}" for name, value in self.data.items())))

    async def look(self, scene: Scene) -> Seen:
        """Search the events that have come."""
        events = [each for each in scene.guest.machine.qmp.events[scene.first_event :] if self._fits(each)]
        found = next((each for each in events if each.evidence not in scene.taken), None)
        if found is None:
            return Seen(holds=False, observed="no such event", evidence=scene.last.evidence)
        if scene.consuming:
            scene.taken.add(found.evidence)
        return Seen(holds=True, observed=f"{found.name} {json.dumps(dict(found.data))}", evidence=found.evidence)

    def _fits(self, event: Event) -> bool:
        return event.name == self.name and all(
            _word(event.data.get(name)) == value for name, value in self.data.items()
        )


@dataclass(frozen=True, kw_only=True)
class PathIsThere:
    """A file, folder or link of the guest's, and what it must hold.

    A path may be a shell's pattern; one without a slash before it begins with a device's id: `dev1/driver`.
    """

    path: str
    holds: re.Pattern[str] | None
    key: str = "path"

    def __str__(self) -> str:
        return f"{self.path} with {self.holds.pattern!r}" if self.holds else f"{self.path} there"

    async def look(self, scene: Scene) -> Seen:
        """Read what there is of this name."""
        path = await _full_path(scene, self.path)
        if path is None:
            return Seen(holds=False, observed="no such PCI device", evidence=scene.last_reply)
        there, texts, evidence = await _found(scene, path)
        if self.holds is None:
            return Seen(holds=there, observed="there" if there else "not there", evidence=evidence)
        fitting = [name for name, text in texts.items() if self.holds.search(text)]
        observed = "; ".join(f"{name}: {texts[name]}" for name in fitting or texts) or "no such file"
        return Seen(holds=bool(fitting), observed=shortened(observed), evidence=evidence)


@dataclass(frozen=True, kw_only=True)
class PathIsGone:
    """A path that is no longer there."""

    path: str
    key: str = "gone"

    def __str__(self) -> str:
        return f"{self.path} gone"

    async def look(self, scene: Scene) -> Seen:
        """Look for the path."""
        path = await _full_path(scene, self.path)
        if path is None:
            return Seen(holds=False, observed="no such PCI device was ever there", evidence=scene.last_reply)
        there, _, evidence = await _found(scene, path)
        return Seen(holds=not there, observed="still there" if there else "gone", evidence=evidence)


@dataclass(frozen=True, kw_only=True)
class RegisterIs:
    """A register of a function's configuration space, read by the guest as setpci reads it."""

    device: str  #: an id, or an address
    register: str  #: setpci's name for it: `COMMAND`, `CAP_EXP+10.w`, `ECAP_AER+4.l`
    value: int
    mask: int | None
    key: str = "register"

    def __str__(self) -> str:
        under = f" under {self.mask:#x}" if self.mask is not None else ""
        return f"{self.device} {self.register} {self.value:#x}{under}"

    async def look(self, scene: Scene) -> Seen:
        """Read the register; one that cannot be read has no value."""
        await scene.check_running()
        bdf = await scene.place(self.device)
        if bdf is None:
            return Seen(holds=False, observed=f"no PCI function {self.device}", evidence=scene.last_reply)
        result = await scene.guest.shell.run(f"setpci -s {bdf} {self.register}")
        try:
            value = int(result.text, 16)
        except ValueError:
            return Seen(holds=False, observed=shortened(result.error or result.text), evidence=result.evidence)
        kept = value if self.mask is None else value & self.mask
        return Seen(holds=kept == self.value, observed=f"{value:#x}", evidence=result.evidence)


@dataclass(frozen=True, kw_only=True)
class DeviceIsThere:
    """A device that has an id, in QEMU's own tree."""

    device: str
    key: str = "device"

    def __str__(self) -> str:
        return f"{self.device} in QEMU's device tree"

    async def look(self, scene: Scene) -> Seen:
        """Look into the tree."""
        there, line = await in_tree(scene.guest.machine, self.device)
        return Seen(holds=there, observed="there" if there else "not there", evidence=line)


def pattern_of(text: str) -> re.Pattern[str]:
    """Return a regular expression, in which `^` and `$` are a line's; raise InputError if it is not one."""
    try:
        return re.compile(text, re.MULTILINE)
    except re.error as error:
        raise InputError(f"{text!r} is not a regular expression: {error}") from None


def shortened(text: str) -> str:
    """Return a text in one line, not longer than a finding may be."""
    line = " | ".join(filter(None, map(str.strip, text.splitlines())))
    return line if len(line) <= _SHOWN else f"{line[:_SHOWN]}…"


def _lines(log: KernelLog, scene: Scene) -> list[LogRecord]:
    # by lines of the file: a kernel that boots anew numbers its records from 0
    return [each for each in log.records if each.line > scene.first_line and each.reference not in scene.taken]


def _word(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


async def _full_path(scene: Scene, path: str) -> str | None:
    """Return a path of the guest's; None if it begins with a device that has no address."""
    await scene.check_running()
    if path.startswith("/"):
        return path
    device, slash, rest = path.partition("/")
    bdf = await scene.place(device)
    return f"{bdf.sysfs}{slash}{rest}" if bdf else None


async def _found(scene: Scene, path: str) -> tuple[bool, dict[str, str], str]:
    """Return whether such a path exists, the texts of files and links of that name, and where that is recorded."""
    shown = await show(scene.guest, path)
    texts = {name: shown.text(name) for name in shown.files} | shown.links
    if texts or _GLOB.search(path):
        return bool(texts), texts, shown.evidence
    # a folder, or a file that cannot be read, is there too
    found = await scene.guest.shell.wait_path(path, exists=True, seconds=0)
    return found.came, texts, found.evidence
