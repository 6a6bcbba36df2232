"""A command that waits for a lock: it is blocked, and whoever holds the lock is named."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from testbed.guest.drivers import load_drivers
from testbed.guest.pci import address_of
from testbed.model.errors import BlockedError

if TYPE_CHECKING:
    from testbed.pytest_plugin import BootFactory


@pytest.mark.extended
@pytest.mark.seconds(40)
async def test_a_rescan_that_waits_for_a_removal_names_the_process_that_removes(testbed_boot: BootFactory) -> None:
    async with testbed_boot("q35", parameters={"devices": ["nvme"]}) as guest:
        await load_drivers(guest)
        address = await address_of(guest.machine, "dev1")
        # without bus mastering the controller answers nothing, and its driver waits for a minute to delete its queues
        await guest.act(f"setpci -s {address} COMMAND=0:4")
        await guest.shell.start(f"echo 1 > {address.sysfs}/remove")
        await guest.shell.sleep(1)
        with pytest.raises(BlockedError) as caught:
            await guest.shell.run("echo 1 > /sys/bus/pci/rescan", patience=5)
        waiting, owner, *_ = caught.value.standing
        assert "(D)" in waiting.task
        assert "remove_store" in owner.stack
        assert owner.holds.startswith("likely holds pci_rescan_remove_lock, inferred from its stack: ")
        assert f"{owner.task} and {owner.holds}" in str(caught.value)
