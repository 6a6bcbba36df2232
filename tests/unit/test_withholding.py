"""A QEMU that would die of the device is not given it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from testbed.host.accel import Accel
from testbed.machine.withholding import withholding
from testbed.model.errors import UnsupportedError
from testbed.model.spec import Slot

if TYPE_CHECKING:
    from testbed.machine.launch import Machine


@pytest.mark.parametrize("version", ["10.0.2 (Debian 1:10.0.2+ds-2~bpo12+1)", "8.2.10"])
async def test_a_later_qemu_without_kvm_is_not_given_the_device(version: str) -> None:
    """Known of 10.0.2 by its death, which a test cannot wait for on every host."""
    machine = SimpleNamespace(qemu=SimpleNamespace(version=version), accel=Accel(name="tcg", reason="test"))
    with pytest.raises(UnsupportedError, match="crashes QEMU under TCG") as caught:
        async with withholding(cast("Machine", machine), Slot(bus="rp1")):
            pass
    assert caught.value.hint
