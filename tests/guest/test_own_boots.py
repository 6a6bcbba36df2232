"""Disks that their own loader boots, watched over the console alone: boot sectors that say something, and Debians."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from testbed.host.firmware import find_ovmf
from testbed.model.errors import LackingError, UnsupportedError
from testbed.scenarios.scenario import find_scenario
from testbed.scenarios.trial import Trial
from tests.bootable_disks import FREE_USER, PASSWORD, bootable_disk
from tests.console_disk import login_file
from tests.disks import SECTOR

if TYPE_CHECKING:
    from testbed.model.outcome import Outcome
    from testbed.pytest_plugin import BootFactory, Judge

#: 8086 code that prints, by the firmware's means, the text behind it up to a NUL, and halts
_PRINTS = bytes.fromhex("31c0 8ed8 31db be187c fc ac 84c0 7406 b40e cd10 ebf5 f4 ebfd")


def boot_sector(folder: Path, says: str) -> Path:
    """Return a disk whose first sector prints these words."""
    disk = folder / "sector.raw"
    sector = (_PRINTS + says.encode() + b"\0").ljust(510, b"\0") + b"\x55\xaa"
    assert len(sector) == SECTOR
    disk.write_bytes(sector.ljust(1 << 20, b"\0"))
    return disk


def stages(outcome: Outcome) -> list[str]:
    return [each.subject for each in outcome.findings if each.observed.startswith("after ")]


@pytest.mark.seconds(10)
async def test_a_boot_sector_that_speaks_as_a_login_does(testbed_try: Judge, tmp_path: Path) -> None:
    disk = boot_sector(tmp_path, "\r\nWelcome to GRUB!\r\n\r\ncustomer login: ")
    outcome = await testbed_try("boots", image=f"disk:{disk}")
    assert (outcome.verdict, outcome.outcome, outcome.boot) == ("good", "login", "loader")
    assert stages(outcome) == ["firmware", "loader", "login"]
    assert outcome.findings[0].observed.partition(": ")[2].startswith("SeaBIOS (version 1.")


@pytest.mark.seconds(10)
async def test_a_person_starts_it_again_with_the_console_on_a_terminal(testbed_try: Judge, tmp_path: Path) -> None:
    disk = boot_sector(tmp_path, "\r\nWelcome to GRUB!\r\n\r\ncustomer login: ")
    outcome = await testbed_try("boots", image=f"disk:{disk}")
    script = await asyncio.create_subprocess_exec(
        Path(outcome.rundir) / "reproduce.sh", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert script.stdin
    assert script.stdout
    async with asyncio.timeout(120):
        shown = await script.stdout.readuntil(b"customer login: ")
        script.stdin.write(b"\x01x")  # what it says ends QEMU
        assert await script.wait() == 0
    assert b"--- the test bed said: boots q35" in shown
    assert b"Welcome to GRUB!" in shown


@pytest.mark.seconds(10)
@pytest.mark.parametrize(
    ("says", "options", "verdict", "outcome", "reason"),
    [
        ("", {"seconds": 2}, "broken", "silent", "no word of loader within 2 s; a kernel speaks on the console that"),
        ("\r\nerror: no such device.\r\ngrub rescue> ", {}, "bad", "loader", "no further: grub-rescue: grub rescue>"),
        (
            "\r\nKernel panic - not syncing: no root\r\n",
            {},
            "bad",
            "firmware",
            "panic: Kernel panic - not syncing: ",
        ),
    ],
    ids=["silent", "rescue", "panic"],
)
async def test_boot_sectors_that_come_no_further(
    testbed_try: Judge, tmp_path: Path, says: str, options: dict[str, int], verdict: str, outcome: str, reason: str
) -> None:
    disk = boot_sector(tmp_path, says)
    tried = await testbed_try("boots", image=f"disk:{disk}", options=options)
    assert (tried.verdict, tried.outcome) == (verdict, outcome)
    assert reason in tried.reason


@pytest.mark.seconds(10)
async def test_a_disk_with_nothing_to_boot(testbed_try: Judge, tmp_path: Path) -> None:
    disk = tmp_path / "nothing.raw"
    disk.write_bytes(bytes(1 << 20))
    outcome = await testbed_try("boots", image=f"disk:{disk}")
    assert (outcome.verdict, outcome.outcome) == ("bad", "firmware")
    assert outcome.reason == "came to firmware and no further: no-bootable-device: No bootable device."


@pytest.mark.extended
@pytest.mark.seconds(180)
@pytest.mark.parametrize("suite", ["bookworm", "trixie"])
async def test_a_debian_by_seabios_with_an_option_and_a_login(testbed_try: Judge, tmp_path: Path, suite: str) -> None:
    login = login_file(tmp_path, "root", PASSWORD)
    disk = bootable_disk(suite)
    outcome = await testbed_try("boots", image=f"disk:{disk}", cmdline="pci=nomsi nosuch=a;b", login=login)
    assert (outcome.verdict, outcome.outcome) == ("good", "shell"), outcome.reason
    assert stages(outcome)[-2:] == ["login", "shell"]
    line = next(each.observed for each in outcome.findings if each.subject == "kernel command line")
    assert line.endswith(" quiet pci=nomsi nosuch=a;b"), "that of its own entry, and the options"
    written = [path for path in Path(outcome.rundir).rglob("*") if path.is_file() and path.suffix != ".qcow2"]
    assert not [path for path in written if PASSWORD.encode() in path.read_bytes()]
    assert PASSWORD not in outcome.model_dump_json()


@pytest.mark.extended
@pytest.mark.seconds(180)
@pytest.mark.parametrize("suite", ["bookworm", "trixie"])
async def test_a_debian_by_ovmf_with_a_user_who_has_no_password(testbed_try: Judge, tmp_path: Path, suite: str) -> None:
    try:
        find_ovmf("q35")
    except LackingError as lacking:
        pytest.skip(f"{lacking} ({lacking.remedy})")
    disk = bootable_disk(suite)
    login = login_file(tmp_path, FREE_USER)
    outcome = await testbed_try("boots", image=f"disk:{disk}", parameters={"firmware": "ovmf"}, login=login)
    assert (outcome.verdict, outcome.outcome) == ("good", "shell"), outcome.reason
    assert "BdsDxe" in outcome.findings[0].observed


@pytest.mark.extended
@pytest.mark.seconds(180)
async def test_a_debian_whose_password_is_another(testbed_try: Judge, tmp_path: Path) -> None:
    login = login_file(tmp_path, "root", "not-this-one")
    outcome = await testbed_try("boots", image=f"disk:{bootable_disk()}", login=login)
    assert (outcome.verdict, outcome.outcome) == ("bad", "login")
    assert outcome.reason == "came to login and no further: login-incorrect: Login incorrect"


@pytest.mark.extended
@pytest.mark.seconds(120)
async def test_an_entry_whose_root_is_not_there_ends_in_the_initramfs(testbed_try: Judge) -> None:
    outcome = await testbed_try("boots", image=f"disk:{bootable_disk()}", options={"entry": 2})
    assert (outcome.verdict, outcome.outcome) == ("bad", "initrd")
    assert "initramfs-shell: ALERT!  LABEL=nowhere does not exist.  Dropping to a shell!" in outcome.reason


#: prints kernel messages as fast as it can
FLOOD = (
    "dmesg -n 8; echo on >/proc/sys/kernel/printk_devkmsg; "
    "{ while :; do echo '<3>flood: the quick brown fox jumps over the lazy dog' >/dev/kmsg; done; } "
    ">/dev/null 2>&1 & echo $!"
)


@pytest.mark.extended
@pytest.mark.seconds(300)
async def test_a_debian_without_an_agent_answers_what_a_scenario_asks(
    testbed_boot: BootFactory, tmp_path: Path
) -> None:
    login = login_file(tmp_path, "root", PASSWORD)
    image, machine = f"disk:{bootable_disk()}", "q35[hotplug=native]"
    async with testbed_boot(machine, image=image, via="console", login=login) as guest:
        for name, outcome in (("disk-present", "present"), ("disk-plug", "present"), ("disk-unplug", "deleted")):
            scenario = find_scenario(name)
            judgement = await scenario.judge(Trial(guest=guest, options=scenario.values({})))
            assert (judgement.verdict, judgement.outcome) == ("good", outcome), judgement.reason
            assert any(each.subject.startswith("guest sysfs") for each in judgement.findings) or name == "disk-present"
        assert guest.shell.log.find("pciehp: Slot"), "the kernel's messages are those of its own log"
        with pytest.raises(UnsupportedError, match="prove-nic"):
            await guest.shell.run_verb("prove-nic", "eth0")
        flood = await guest.shell.succeed(FLOOD)
        for number in range(20):
            result = await guest.shell.run(f"echo {number}; echo e{number} >&2; exit {number}")
            assert (result.text, result.error, result.status) == (f"{number}", f"e{number}", number)
        await guest.shell.succeed(f"kill {flood}")
        assert guest.machine.console.written().count(b"lazy dog") > 20, "the console was flooded"
