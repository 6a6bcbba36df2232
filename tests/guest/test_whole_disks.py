"""Disks that customers have: other file systems, several partitions, and a kernel that does not find its disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from testbed.campaign.prepared import prepare
from testbed.image.store import remove_image
from testbed.model.errors import InputError
from testbed.model.setup import Setup
from tests.disks import btrfs, ext4, gpt_disk, mbr_disk, swap, xfs
from tests.tiny_system import PROGRAMS, tiny_files

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from testbed.pytest_plugin import BootFactory

FSTAB = b"""\
LABEL=boot /boot ext4 defaults 0 0
LABEL=var /var ext4 defaults 0 0
LABEL=swap none swap sw 0 0
"""


@pytest.mark.extended
@pytest.mark.seconds(40)
@pytest.mark.parametrize(("kind", "made"), [("xfs", xfs), ("btrfs", btrfs)])
async def test_a_root_of_another_type(
    testbed_boot: BootFactory, tmp_path: Path, kind: str, made: Callable[..., Path]
) -> None:
    disk = mbr_disk(tmp_path / "other.raw", [made(tmp_path, tiny_files(tmp_path), programs=PROGRAMS)])
    try:
        async with testbed_boot(image=f"disk:{disk}", whole="1") as guest:
            assert (await guest.shell.wait_path("/started", exists=True, seconds=60)).came
            assert await guest.shell.succeed("awk '$2 == \"/\" {print $3}' /proc/mounts | tail -n 1") == kind
            await guest.shell.succeed("echo asked >> /started; sync")
            assert "asked" in await guest.shell.succeed("echo 3 > /proc/sys/vm/drop_caches; cat /started")
    finally:
        remove_image(f"whole@disk:{disk}")


@pytest.mark.extended
@pytest.mark.seconds(30)
async def test_boot_var_and_swap_are_the_business_of_its_own_init(testbed_boot: BootFactory, tmp_path: Path) -> None:
    root = {**tiny_files(tmp_path), "etc/fstab": FSTAB, "var/hidden": b"", "boot/hidden": b""}
    (kernel,) = [path for path in root if path.startswith("boot/vmlinuz-")]
    boot = ext4(tmp_path, {kernel.removeprefix("boot/"): root.pop(kernel)}, name="boot", label="boot", mib=24)
    var = ext4(tmp_path, {"mail/root": b"for root"}, name="var", label="var")
    parts = [boot, ext4(tmp_path, root, name="root", mib=48, programs=PROGRAMS), swap(tmp_path, "swap"), var]
    disk = gpt_disk(tmp_path / "parts.raw", parts)
    try:
        async with testbed_boot(image=f"disk:{disk}", whole="1") as guest:
            shell = guest.shell
            assert (await shell.wait_path("/var/mail/root", exists=True, seconds=60)).came
            assert await shell.wait_until_succeeds("grep -q partition /proc/swaps", seconds=20)
            assert await shell.succeed("cat /var/mail/root") == "for root"
            assert kernel.removeprefix("boot/") in await shell.succeed("ls /boot")
            await shell.succeed("echo more >> /var/mail/root; sync")
    finally:
        remove_image(f"whole@disk:{disk}")


@pytest.mark.extended
@pytest.mark.seconds(20)
def test_a_kernel_without_virtio_is_refused_before_it_boots(tmp_path: Path) -> None:
    files = {
        path: content
        for path, content in tiny_files(tmp_path).items()
        if "virtio_blk" not in path and "/modules." not in path
    }
    disk = mbr_disk(tmp_path / "sata.raw", [ext4(tmp_path, files, mib=64, programs=PROGRAMS)])
    with pytest.raises(InputError, match=r"has no virtio_blk: it could not find its root") as caught:
        prepare(Setup(machine="q35", image=f"disk:{disk}", whole="1"), progress=lambda _: None)
    assert "without --whole this one can run" in str(caught.value.hint)
