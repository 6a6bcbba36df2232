"""Fact: one thing observed of a guest and its machine, before anything is asked of them or by a survey; two compare."""

from __future__ import annotations

import enum

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

#: the file of a rundir
FACTS_FILE = "facts.json"


class FactKind(enum.StrEnum):
    """What a fact is about, in the order in which differences are told."""

    CONTROL = "control"  #: who has hot-plug, AER and PME, and what `_OSC` said
    INTERRUPT = "interrupt"  #: a source in /proc/interrupts
    SLOT = "slot"  #: a slot in sysfs
    DRIVER = "driver"  #: what is bound to a function, a port service or a virtio device
    PCI = "pci"  #: a function in the guest's tree
    CAPABILITY = "capability"  #: what the function's configuration space says
    REGISTER = "register"  #: what a device register reads as, of a survey
    QEMU = "qemu"  #: a device in QEMU's tree, and its properties
    LOG = "log"  #: a line of the kernel log, without what differs from boot to boot


class Fact(BaseModel):
    """One observation; a thing's fact without an aspect says that it is there."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    kind: FactKind
    subject: str = Field(description="the thing: a QEMU id where it has one, else the guest's or QEMU's name")
    aspect: str = Field(default="", description="what of the thing; empty: the thing itself")
    value: str
    evidence: str = Field(min_length=1, description="a line of a file of the rundir")


Facts = TypeAdapter(tuple[Fact, ...])
