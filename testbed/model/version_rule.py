"""VersionRule: since, or until, which version of Linux or QEMU a behaviour is what is documented, and why."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, model_validator

from testbed.model.json_value import JsonValue

Axis = Literal["kernel", "qemu"]
AXES: tuple[Axis, ...] = ("kernel", "qemu")
_VERSION = r"^([0-9]{1,3}\.[0-9]{1,3})?$"


class VersionRule(JsonValue):
    """A version of one or both, `MAJOR.MINOR`."""

    kernel: str = Field(default="", pattern=_VERSION, description="Linux")
    qemu: str = Field(default="", pattern=_VERSION, description="QEMU")
    reason: str = Field(min_length=1, description="the commit, or what was seen")

    @model_validator(mode="after")
    def _names_one(self) -> VersionRule:
        if not self.kernel and not self.qemu:
            raise ValueError("names neither a kernel nor a qemu")
        return self

    def version(self, axis: Axis) -> str:
        """Return the version on an axis; empty if the rule says nothing of it."""
        return self.kernel if axis == "kernel" else self.qemu


def version_number(text: str) -> tuple[int, ...]:
    """Return the major and minor number that a version begins with: `(6, 12)` of `6.12.95+deb13-amd64`."""
    match = re.match(r"(\d+)\.(\d+)", text)
    return tuple(map(int, match.groups())) if match else ()


def outside(since: VersionRule | None, until: VersionRule | None, axis: Axis, version: str) -> str:
    """Return why a version is not one that something is documented for; empty if it is.

    `since` counts from that version on, `until` up to the one before it.
    """
    number = version_number(version)
    if since and since.version(axis) and number < version_number(since.version(axis)):
        return f"documented since {since.version(axis)}: {since.reason}"
    if until and until.version(axis) and number >= version_number(until.version(axis)):
        return f"documented until {until.version(axis)}: {until.reason}"
    return ""
