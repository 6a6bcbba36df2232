"""Setup: a machine with its command line, image, QEMU and accelerator: everything a guest depends on but the question.

It is written in one line, which names cells, columns and rows, and is read back exactly:

    q35[hotplug=native,devices=virtio-blk+nvme]{qemu=any,image=debian-backports} quiet pcie_aspm=off

A template with the parameters given to it, then in braces what is not the default, then one blank and the kernel
command line, verbatim.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, ValidationError

from testbed.model.errors import InputError
from testbed.model.json_value import JsonValue
from testbed.model.value_text import ValueReader, name_text, settings_text

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Mapping

    from testbed.model.parameter import Parameter

    #: the parameters that a template of this name declares; raises InputError if there is none
    Declared = Callable[[str], Mapping[str, Parameter]]

#: the fields that have a place of their own in the line
_PLACED = ("machine", "parameters", "cmdline")


class Setup(JsonValue):
    """What a guest depends on."""

    machine: str = Field(description="name or path of the machine template")
    parameters: dict[str, Any] = Field(default_factory=dict, description="template parameters given")
    cmdline: str = Field(default="", description="the kernel command line under test, verbatim")
    image: str = Field(default="debian", description="image recipe, or a kernel")
    qemu: str = Field(default="", description="QEMU asked for: a path, a name or `any`; empty: the one on PATH")
    accel: Literal["auto", "kvm", "tcg"] = Field(default="auto", description="accelerator")
    first: str = Field(default="", description="a command of the guest that prepares the starting state")
    whole: str = Field(
        default="",
        pattern=r"^(running|[0-9]{1,5})?$",
        description="run the disk's own user space; up once systemd reports `running`, or after so many guest seconds",
    )
    via: Literal["agent", "console"] = Field(
        default="agent",
        description="who answers in the guest: the test bed's agent, or a shell on the console of a disk that its own "
        "loader boots",
    )
    login: str = Field(
        default="", description="file with the user and the password with which a console that asks is answered"
    )

    def __str__(self) -> str:
        return setup_text(self)

    def fields(self) -> dict[str, Any]:
        """Return the fields of a setup, without those that a kind of setup adds."""
        return {name: getattr(self, name) for name in Setup.model_fields}


def other_fields() -> list[str]:
    """Return the fields that are written in braces, in order."""
    return [name for name in Setup.model_fields if name not in _PLACED]


def given_text(name: str, settings: Mapping[str, Any]) -> str:
    """Return a name with what was given to it: `q35[hotplug=native]`."""
    return name_text(name) + (f"[{settings_text(settings)}]" if settings else "")


def setup_text(setup: Setup) -> str:
    """Return a setup in one line; `read_setup` reads it back."""
    others = {
        name: getattr(setup, name)
        for name in other_fields()
        if getattr(setup, name) != Setup.model_fields[name].default
    }
    machine = given_text(setup.machine, setup.parameters) + (f"{{{settings_text(others)}}}" if others else "")
    return f"{machine} {setup.cmdline}" if setup.cmdline else machine


def read_setup(text: str, declared: Declared) -> Setup:
    """Return the setup that a line says; raise InputError, with the place, for one that says none."""
    return setup_from(ValueReader(text, what="machine"), declared)


def setup_from(reader: ValueReader, declared: Declared) -> Setup:
    """Read a setup up to the end of the text."""
    name, parameters = read_given(reader, declared)
    others = reader.settings("}", dict.fromkeys(other_fields(), _read_text)) if reader.takes("{") else {}
    if reader.rest and not reader.takes(" "):
        reader.fail("expected '[', '{', or a blank and the command line")
    try:
        return Setup(machine=name, parameters=parameters, cmdline=reader.rest, **others)
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(f"{reader.what} {reader.text!r}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def read_given(reader: ValueReader, declared: Declared) -> tuple[str, dict[str, Any]]:
    """Read `NAME[SETTING=VALUE,...]`, the settings in the types that are declared for that name."""
    name = reader.name()
    parameters = declared(name)
    if not reader.takes("["):
        return name, {}
    return name, reader.settings("]", {each: partial(_read, parameters[each]) for each in parameters})


def _read(parameter: Parameter, reader: ValueReader, names: Container[str]) -> Any:
    return parameter.read(reader, names)


def _read_text(reader: ValueReader, names: Container[str]) -> str:
    return reader.text_value(names)
