"""CPU models: the features that a QEMU gives one, asked of that QEMU."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from testbed.model.errors import InputError, RefusedError

if TYPE_CHECKING:
    from testbed.machine.qmp import Qmp

#: what every x86-64 kernel boots on: QEMU's plainest 64-bit model
PLAINEST = "qemu64"
_FLAG = re.compile(r"([+-]?)([^=]+)(?:=(.*))?")
_WORDS = {"on": True, "off": False, "true": True, "false": False, "yes": True, "no": False}


@dataclass(frozen=True, kw_only=True)
class CpuModel:
    """A `-cpu` value taken apart."""

    name: str
    flags: tuple[tuple[str, bool | str], ...] = ()

    @classmethod
    def parse(cls, text: str) -> CpuModel:
        """Read a `-cpu` value: `max`, `EPYC,smap=off,+x2apic`."""
        name, *flags = text.split(",")
        return cls(name=name, flags=tuple(_flag(flag) for flag in flags))


async def cpu_features(qmp: Qmp, model: CpuModel) -> frozenset[str]:
    """Return the CPUID features that are on in a model here; raise InputError if this QEMU does not have it.

    The static expansion names each feature once, where the full one has aliases too (QMP, query-cpu-model-expansion).
    """
    asked: dict[str, Any] = {"name": model.name}
    if model.flags:
        asked["props"] = dict(model.flags)
    try:
        answer = await qmp.execute("query-cpu-model-expansion", {"type": "static", "model": asked})
    except RefusedError as error:
        raise InputError(
            f"CPU model {model.name}: {error.description}", hint="list them: qemu-system-x86_64 -cpu help"
        ) from None
    return frozenset(name for name, value in answer["model"]["props"].items() if value is True)


def _flag(text: str) -> tuple[str, bool | str]:
    match = _FLAG.fullmatch(text)
    if match is None:
        raise InputError(f"CPU flag {text!r}: is not NAME=on|off")
    sign, name, value = match.groups()
    if value is None:
        return name, sign != "-"
    return name, _WORDS.get(value.lower(), value)
