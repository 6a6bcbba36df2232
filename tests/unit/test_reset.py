"""A reset of a machine whose QEMU cannot be told what to do then: it is no verdict on the guest."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from testbed.guest.reset import reset_unwatched
from testbed.model.errors import RefusedError, UnsupportedError

if TYPE_CHECKING:
    from testbed.machine.launch import Machine


def machine(words: str) -> Machine:
    """Return a machine whose QMP refuses every command in these words."""

    async def execute(command: str, _arguments: Any = None) -> None:
        raise RefusedError(command, words, evidence="qmp.jsonl:1")

    return cast(
        "Machine", SimpleNamespace(qmp=SimpleNamespace(execute=execute), qemu=SimpleNamespace(version="5.2.0 (x)"))
    )


async def test_a_qemu_without_set_action_is_named_with_what_it_lacks() -> None:
    """As 5.2 answers."""
    with pytest.raises(UnsupportedError, match=r"QEMU 5\.2\.0 has no QMP command set-action") as caught:
        await reset_unwatched(machine("The command set-action has not been found"))
    assert "--qemu" in (caught.value.hint or "")


async def test_any_other_refusal_is_one() -> None:
    with pytest.raises(RefusedError, match="not now"):
        await reset_unwatched(machine("not now"))
