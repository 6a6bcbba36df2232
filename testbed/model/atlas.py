"""What an atlas gave: the JSON of `testbed atlas --json`; per case where it is reproduced, where not, since when."""

from __future__ import annotations

from pydantic import Field

from testbed.model.json_value import JsonValue
from testbed.model.outcome import CaseResult  # noqa: TC001 (pydantic reads it)
from testbed.model.spec import FirmwareKind  # noqa: TC001 (pydantic reads it)
from testbed.model.version_rule import Axis  # noqa: TC001 (pydantic reads it)

SCHEMA_VERSION = 1


class AtlasColumn(JsonValue):
    """A kernel or a QEMU of the atlas."""

    name: str = Field(description="as requested: an image, or a QEMU")
    version: str = Field(description="what the kernel or the binary calls itself")
    package: str = Field(description="the kernel's package, or all that the QEMU says of its version")
    sha256: str = Field(description="of kernel and initramfs together, or of the QEMU binary")


class AtlasGap(JsonValue):
    """A kernel or a QEMU that was asked for and could not be had: its suite may have left the archive."""

    axis: Axis
    name: str
    why: str


class AtlasNote(JsonValue):
    """What is said of some cells of a case, and how many these are."""

    cell: str = Field(description="the first of them, by its id")
    count: int = 1
    reason: str


class AtlasResult(JsonValue):
    """A case on one kernel and one QEMU, under one firmware."""

    kernel: str = Field(description="name of the column")
    qemu: str
    firmware: FirmwareKind = "seabios"
    result: CaseResult
    ran: int = Field(description="cells that were judged")
    missing: int = Field(description="cells without an outcome: the atlas was interrupted")
    differing: list[AtlasNote] = Field(description="cells that are not as documented")
    skipped: list[AtlasNote]
    broken: list[AtlasNote]


class Boundary(JsonValue):
    """A question that two neighbouring versions answer in different ways."""

    cell: str
    axis: Axis
    beside: str = Field(description="name of the column on the other axis")
    firmware: FirmwareKind = "seabios"
    before: str = Field(description="last version with the first answer")
    since: str = Field(description="first version with the second answer")
    answer_before: str
    answer_since: str
    reason: str = Field(default="", description="from the case's since or until rule for this boundary; empty: unknown")


class AtlasCase(JsonValue):
    """A case over the whole atlas."""

    case: str
    title: str
    results: list[AtlasResult]
    boundaries: list[Boundary]


class AtlasReport(JsonValue):
    """What `testbed atlas --json` writes; versions ascend."""

    schema_version: int = Field(default=SCHEMA_VERSION, alias="schema", serialization_alias="schema")
    kernels: list[AtlasColumn]
    qemus: list[AtlasColumn]
    firmwares: list[FirmwareKind] = Field(default=["seabios"])
    testbed: str = Field(default="", description="version of the test bed that began it")
    gaps: list[AtlasGap]
    complete: bool = Field(description="false: the run was interrupted, some cells are missing")
    cells: int
    seconds: float = Field(description="wall seconds of all cells, one after another")
    cases: list[AtlasCase]
