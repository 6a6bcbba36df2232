"""The user space of a customer's disk, run whole: a system of one script, and a Debian."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from testbed.host.tools import run_tool
from testbed.image.store import remove_image
from testbed.machine.system_disk import OVERLAY
from tests.debian_disks import CRONTAB, debian_disk
from tests.disks import array_members, ext4, gpt_disk, mbr_disk, physical_volume, sha256
from tests.guest.test_reproduce import output_of
from tests.tiny_system import tiny_root

if TYPE_CHECKING:
    from collections.abc import Iterator

    from testbed.pytest_plugin import BootFactory, Judge

#: asks for what the disk's init wrote, from the disk itself, and writes to it too
SEES_DISK = '''\
from testbed.api import Finding, Judgement, Trial, Verdict, scenario


@scenario()
async def sees_disk(trial: Trial) -> Judgement:
    """What has the disk's own user space written?"""
    shell = trial.guest.shell
    await shell.wait_path("/started", exists=True, seconds=60)
    await shell.succeed("sync; echo 3 > /proc/sys/vm/drop_caches")
    trial.stimulus("cat /started")
    seen = await shell.run("cat /started; echo asked >> /started; sync")
    finding = Finding(subject="disk", expected="one", observed=seen.text, evidence=seen.evidence)
    return Judgement(verdict=Verdict.GOOD, outcome="seen", reason=seen.text, findings=(finding,))
'''


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_root(tmp_path_factory.mktemp("root"))


@pytest.fixture(scope="module")
def tiny(root: Path) -> Iterator[Path]:
    """Yield a disk with that system in a partition."""
    disk = mbr_disk(root.with_name("tiny.raw"), [root])
    yield disk
    remove_image(f"whole@disk:{disk}")


@pytest.mark.seconds(15)
async def test_a_system_of_one_script_runs_beside_the_test_bed(testbed_boot: BootFactory, tiny: Path) -> None:
    before = sha256(tiny)
    async with testbed_boot(image=f"disk:{tiny}", whole="1", cmdline="init=/bin/init WITNESS=seen -- one") as guest:
        assert guest.user_space
        assert (guest.user_space.name, guest.user_space.init) == ("Tiny 1", "/bin/busybox")
        shell = guest.shell
        assert (await shell.wait_path("/started", exists=True, seconds=60)).came
        assert await shell.succeed("cat /started") == "one seen", "its init has the kernel's arguments and environment"
        assert "testbed-system" in await shell.succeed("cat /sys/block/*/serial")
        # the disk has no lspci: that of the test bed stands behind what it has
        assert "1af4:" in await shell.succeed("lspci")
        await shell.succeed("sync")
        overlay = guest.machine.rundir / OVERLAY
        assert b"one seen" in overlay.read_bytes()
    assert sha256(tiny) == before, "the image is never written to"


@pytest.mark.extended
@pytest.mark.seconds(15)
async def test_its_guest_is_saved_with_what_it_wrote(
    testbed_try: Judge, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TESTBED_SNAPSHOTS", str(tmp_path / "snapshots"))
    (tmp_path / "sees_disk.py").write_text(SEES_DISK)
    setup = {"image": f"disk:{tiny}", "whole": "1", "cmdline": "init=/bin/init -- one"}
    fresh = await testbed_try(str(tmp_path / "sees_disk.py"), **setup)
    warm = await testbed_try(str(tmp_path / "sees_disk.py"), **setup)
    assert [(each.verdict, each.reason) for each in (fresh, warm)] == [("good", "one")] * 2, "each has its own overlay"
    assert (fresh.start, warm.start, warm.note) == ("fresh", "warm", "")
    assert fresh.user_space == warm.user_space
    assert warm.user_space.startswith("Tiny 1: /bin/busybox after ")
    (overlay,) = (tmp_path / "snapshots").glob(f"*/{OVERLAY}")
    overlay.write_bytes(overlay.read_bytes()[:-1] + b"x")
    damaged = await testbed_try(str(tmp_path / "sees_disk.py"), **setup)
    assert (damaged.verdict, damaged.start) == ("good", "fresh")
    assert "is damaged" in damaged.note


@pytest.mark.extended
@pytest.mark.seconds(15)
async def test_a_verdict_beside_the_disk_s_own_user_space(testbed_try: Judge, tiny: Path) -> None:
    setup = {"image": f"disk:{tiny}", "whole": "1", "cmdline": "init=/bin/init"}
    outcome = await testbed_try("disk-unplug", "q35[hotplug=native]", **setup)
    assert outcome.verdict == "good", outcome.reason
    assert outcome.time == "real"
    assert outcome.user_space.startswith("Tiny 1: /bin/busybox after ")


@pytest.mark.extended
@pytest.mark.seconds(60)
async def test_reproduce_sh_runs_it_over_an_overlay_of_its_own(testbed_try: Judge, tiny: Path) -> None:
    before = sha256(tiny)
    setup = {"image": f"disk:{tiny}", "whole": "1", "first": "grep NAME /etc/os-release; echo more >> /etc/os-release"}
    outcome = await testbed_try("disk-unplug", "q35[hotplug=native]", cmdline="pcie_aspm=off", **setup)
    assert (outcome.verdict, outcome.outcome) == ("bad", "ignored")
    shown = await output_of(Path(outcome.rundir) / "reproduce.sh")
    assert 'guest < PRETTY_NAME="Tiny 1"' in shown
    assert "dev1 is there after 30 s" in shown
    assert "DEVICE_DELETED" not in shown
    assert sha256(tiny) == before


@pytest.mark.extended
@pytest.mark.seconds(30)
async def test_a_root_that_ought_to_be_checked_is_said_to_be_so(
    testbed_boot: BootFactory, root: Path, tmp_path: Path
) -> None:
    disk = tmp_path / "unchecked.raw"
    disk.write_bytes(root.read_bytes())
    # fs/ext4/ext4.h: EXT4_ERROR_FS
    run_tool(["debugfs", "-w", "-R", "set_super_value state 2", disk], doing="marking a file system")
    try:
        async with testbed_boot(image=f"disk:{disk}", whole="1", cmdline="init=/bin/init") as guest:
            assert guest.user_space
            assert "fsck is recommended" in str(guest.user_space)
    finally:
        remove_image(f"whole@disk:{disk}")


@pytest.mark.extended
@pytest.mark.seconds(30)
@pytest.mark.parametrize("made", ["vg-0/root", "md0"])
async def test_a_root_that_is_made_of_partitions(
    testbed_boot: BootFactory, root: Path, tmp_path: Path, made: str
) -> None:
    if made == "md0":
        parts = array_members(tmp_path, root, level=0)
    else:
        parts = [ext4(tmp_path, {"a": b"b"}, name="boot"), physical_volume(tmp_path, {"root": root})]
    disk = gpt_disk(tmp_path / "made.raw", parts)
    try:
        async with testbed_boot(image=f"disk:{disk}", whole="1", cmdline="init=/bin/init -- one") as guest:
            assert (await guest.shell.wait_path("/started", exists=True, seconds=60)).came
            assert await guest.shell.succeed("cat /started") == "one"
            device = await guest.shell.succeed("stat -c %d /")
            name = await guest.shell.succeed(
                f"cat /sys/dev/block/$(({device} >> 8)):$(({device} & 255))/dm/name || true"
            )
            assert name == ("vg--0-root" if "/" in made else "")
    finally:
        remove_image(f"whole@disk:{disk}")


@pytest.fixture(scope="module")
def debian() -> Path:
    """Return a Debian with the crontab of the report in it."""
    return debian_disk(crontab=CRONTAB)


@pytest.mark.extended
@pytest.mark.seconds(90)
@pytest.mark.parametrize(("suite", "name"), [("", "Debian GNU/Linux"), ("bullseye", "11 (bull"), ("trixie", "13 (tri")])
async def test_a_debian_is_up_before_anything_is_asked(testbed_boot: BootFactory, suite: str, name: str) -> None:
    async with testbed_boot(image=f"disk:{debian_disk(suite, crontab=CRONTAB)}", whole="running") as guest:
        assert guest.user_space
        assert name in guest.user_space.name
        assert guest.user_space.init.endswith("/lib/systemd/systemd")
        assert guest.user_space.state == "running"
        shell = guest.shell
        assert await shell.succeed("systemctl is-active cron.service systemd-udevd.service") == "active\nactive"
        # what its udev has loaded is there, and nobody else has loaded anything
        assert await shell.succeed("ls /sys/bus/pci/drivers/virtio-pci | grep -c ^0000:") == "2"
        steps = [step.text for step in guest.machine.journal.steps]
        assert any(text.startswith("until systemctl is-system-running") for text in steps)


#: a disk that nobody announces to the guest: does it come by itself, and can it be taken away again?
UNANNOUNCED = """\
question: Does a disk that was added to a slot which nobody serves appear within two minutes, and can it be unplugged?
steps:
  - blockdev-add driver=null-co node-name=late size=8M
  - stimulus: device_add driver=virtio-blk-pci drive=late bus=rp2 id=late
  - wait: {path: late/vendor, within: 130}
  - do: unplug late
    fails: ignored
"""


@pytest.mark.extended
@pytest.mark.seconds(300)
@pytest.mark.parametrize("first", ["", "systemctl stop cron"])
async def test_the_crontab_of_the_report_finds_the_disk_and_cannot_let_it_go(
    testbed_try: Judge, debian: Path, tmp_path: Path, first: str
) -> None:
    (tmp_path / "unannounced.yaml").write_text(UNANNOUNCED)
    machine = "q35[hotplug=native,port_properties={power_controller_present=off}]"
    setup = {"image": f"disk:{debian}", "whole": "running", "cmdline": "pcie_aspm=off", "first": first}
    outcome = await testbed_try(str(tmp_path / "unannounced.yaml"), machine, **setup)
    assert (outcome.verdict, outcome.outcome) == (("bad", "timed-out") if first else ("good", "as-expected"))
