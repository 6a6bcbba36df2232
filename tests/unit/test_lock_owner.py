"""Who holds what a process waits for: from stacks and the kernel's words, and nobody where they do not tell."""

from __future__ import annotations

import pytest

from testbed.guest.lock_owner import inferred_owner, named_owner
from testbed.model.errors import BlockedError, Standing
from testbed.model.kernel_log import LogRecord
from testbed.model.outcome import standing_findings

WRITE = ("kernfs_fop_write_iter", "vfs_write")
#: as /proc shows it, and with the functions of the lock itself
RESCAN = ("rescan_store", *WRITE)
RESCAN_WHOLE = ("__schedule", "schedule_preempt_disabled", "__mutex_lock.constprop.0", "rescan_store", *WRITE)
REMOVE = ("wait_for_completion_io_timeout", "nvme_dev_disable", "pci_stop_and_remove_bus_device_locked", *WRITE)
EJECT = ("msleep", "pciehp_unconfigure_device", "pciehp_ist")
#: a write to sriov_numvfs that waits for who has a VF through VFIO, and a reader of that file
NUMVFS = ("vfio_unregister_group_dev", "vfio_pci_remove", "pci_iov_remove_virtfn", "sriov_numvfs_store", *WRITE)
NUMVFS_READ = ("sriov_numvfs_show", "dev_attr_show", "seq_read_iter")
UNBIND = ("nvme_dev_disable", "device_release_driver_internal", "unbind_store", *WRITE)


def standing(*stack: str) -> Standing:
    return Standing(task="process 9 (x) is running (R)", stack=stack, evidence="shell.jsonl:3")


@pytest.mark.parametrize(
    ("waiting", "others", "lock", "pid"),
    [
        (RESCAN, {8: standing(*UNBIND), 9: standing(*REMOVE)}, "pci_rescan_remove_lock", 9),
        (RESCAN_WHOLE, {9: standing(*EJECT)}, "pci_rescan_remove_lock", 9),
        # another one that waits for it does not hold it
        (RESCAN, {8: standing("rescan_store", *WRITE), 9: standing(*EJECT)}, "pci_rescan_remove_lock", 9),
        (("pci_dev_lock", "pci_reset_function", "reset_store"), {9: standing(*UNBIND)}, "a device's lock", 9),
        (NUMVFS_READ, {8: standing(*NUMVFS_READ), 9: standing(*NUMVFS)}, "a device's lock", 9),
    ],
)
def test_the_owner_is_inferred_from_the_function_it_stands_in(
    waiting: tuple[str, ...], others: dict[int, Standing], lock: str, pid: int
) -> None:
    owner = inferred_owner(waiting, others)
    assert owner is not None
    assert (owner.pid, owner.lock) == (pid, lock)
    assert "inferred from its stack" in owner.words


@pytest.mark.parametrize(
    ("waiting", "others"),
    [
        (RESCAN, {}),
        (RESCAN, {8: standing(*RESCAN), 9: standing(*UNBIND)}),
        # it waits for a device, not for a lock
        (REMOVE, {9: standing(*EJECT)}),
        (("schedule", "schedule_timeout", "rescan_store"), {9: standing(*EJECT)}),
        (("__bio_queue_enter", "submit_bio_wait"), {9: standing(*REMOVE)}),
        ((), {9: standing(*REMOVE)}),
    ],
)
def test_no_owner_is_named_where_the_stacks_do_not_tell(waiting: tuple[str, ...], others: dict[int, Standing]) -> None:
    assert inferred_owner(waiting, others) is None


@pytest.mark.parametrize(
    ("text", "lock"),
    [
        ("INFO: task sh:7 is blocked on a mutex likely owned by task kworker/0:1:9.", "the mutex"),
        ("INFO: task sh:7 <reader> blocked on an rw-semaphore likely owned by task x:9 <writer>", "the rw-semaphore"),
    ],
)
def test_the_kernels_own_words_come_first(text: str, lock: str) -> None:
    record = LogRecord(text=text, seconds=130.0, sequence=7, line=40, level=6)
    owner = named_owner(7, [record])
    assert owner is not None
    assert (owner.pid, owner.lock, owner.evidence) == (9, lock, "kernel.log:40")
    assert named_owner(8, [record]) is None


def test_a_blocked_command_names_the_likely_owner() -> None:
    owner = Standing(task="process 9 (sh) is …", stack=REMOVE, evidence="shell.jsonl:8", holds="likely holds a lock")
    blocked = BlockedError("cat x", "process 7 (cat) is …", stack=RESCAN, evidence="shell.jsonl:7", others=[owner])
    assert str(blocked).endswith("in rescan_store; process 9 (sh) is … and likely holds a lock")
    assert standing_findings(blocked)[1].observed.startswith("likely holds a lock: wait_for_completion")
