"""Disk images read by a guest: what is found in them, that they are never written to, and guests of their kernels."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from testbed.explain.setting import settings_of
from testbed.host.tools import run_tool
from testbed.image.disk.disk_name import DiskName
from testbed.image.disk.disk_store import survey_disk
from testbed.image.disk.survey import systems_of
from testbed.image.store import ensure_image, remove_image
from tests.debian_disks import CRONTAB, debian_disk
from tests.disks import array_members, ext4, gpt_disk, mbr_disk, physical_volume, sha256
from tests.tiny_system import installed
from tests.unit.kernel_files import RELEASE, bzimage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


GRUB = """\
set default="0"
menuentry 'Debian GNU/Linux' {{
\tlinux /vmlinuz-{release} root=UUID=x ro quiet nomodeset pcie_aspm=off mitigations=off
}}
menuentry 'Debian GNU/Linux (recovery)' {{
\tlinux /vmlinuz-{release} root=UUID=x ro single
}}
"""


def quiet(_: str) -> None:
    pass


def run_testbed(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "testbed", *arguments]
    return subprocess.run(command, env={**os.environ, "COLUMNS": "250"}, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def customer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Yield a disk with the stock kernel and its modules: a boot partition, and LVM whose root a killed VM left."""
    folder = tmp_path_factory.mktemp("customer")
    stock = ensure_image("debian", progress=quiet)
    assert stock.bzimage
    boot = {f"vmlinuz-{stock.kernel}": stock.bzimage.read_bytes()}
    boot["grub/grub.cfg"] = GRUB.format(release=stock.kernel).encode()
    root = installed(stock, folder)
    root |= {
        "etc/os-release": b'PRETTY_NAME="Customer\x1b[31m 1"\nID=debian\n',
        "etc/crontab": b"*/5 * * * * root echo 1 > /sys/bus/pci/rescan\n",
        "etc/modprobe.d/up.conf@": b"/../../../../../../etc/passwd",
        "etc/cron.d/a\nb": b"* * * * * root setpci -s 1 4=0\n",
        f"lib/modules/{stock.kernel}/kernel/x y.ko": b"no module",
    }
    dirty = ext4(folder, root, name="root", mib=48)
    _leave_dirty(dirty)
    twin = ext4(folder, {"file": b"mirrored"}, name="twin", mib=12)
    group = physical_volume(folder, {"root": dirty, "twin@": twin})
    disk = gpt_disk(folder / "customer.raw", [ext4(folder, boot, name="boot", mib=24, label="boot"), group])
    yield disk
    remove_image(f"disk:{disk}")


def _leave_dirty(system: Path) -> None:
    """Mark an ext4 as one whose journal must be replayed (fs/ext4/ext4.h: EXT4_FEATURE_INCOMPAT_RECOVER)."""
    run_tool(["debugfs", "-w", "-R", "feature needs_recovery", system], doing="leaving a file system dirty")


@pytest.mark.xdist_group("disk")
@pytest.mark.seconds(30)
def test_a_disk_nobody_has_looked_into(customer: Path) -> None:
    before = sha256(customer)
    result = run_testbed("image", "show", f"disk:{customer}", "--json")
    assert result.returncode == 0, result.stderr
    shown = json.loads(result.stdout)
    assert shown["partition_table"] == "gpt"
    assert [(volume["name"], volume["type"], volume["error"]) for volume in shown["volumes"]] == [
        ("vda1", "ext4", ""),
        ("vda2", "lvm", ""),
        ("vg-0/root", "ext4", ""),
        ("vg-0/twin", "ext4", ""),
        ("vg-0/slim", "logical", ""),
    ]
    (system,) = shown["systems"]
    (kernel,) = system["kernels"]
    assert (kernel["volume"], kernel["modules"]) == ("vda1", ["vg-0/root", f"lib/modules/{kernel['release']}"])
    first, second = system["entries"]
    assert first["default"]
    assert first["cmdline"] == "root=UUID=x ro quiet nomodeset pcie_aspm=off mitigations=off"
    assert [option["option"] for option in first["options"]] == ["pcie_aspm=off"]
    assert (first["release"], second["cmdline"]) == (kernel["release"], "root=UUID=x ro single")
    # the link leads out of the volume only as far as its root: there is no etc/passwd in it
    assert {line["evidence"][0].split(":")[0] for line in system["settings"]} == {"/etc/crontab", "/etc/cron.d/a\nb"}
    for_people = run_testbed("image", "show", f"disk:{customer}")
    assert "Customer\\x1b[31m 1 on vg-0/root" in for_people.stdout, "a name of the disk's steers no terminal"
    assert "\x1b[31m" not in for_people.stdout
    assert "a logical volume that cannot be opened: of an unsupported type, or incomplete (thin)" in for_people.stdout
    assert "reading" not in for_people.stderr, "it was read once"
    assert sha256(customer) == before, "the image is never written to"


def setup_of(disk: Path, cmdline: str, rundir: Path) -> list[str]:
    """Return the options of a guest of a disk's kernel; its result goes to stdout as JSON."""
    options = ["--image", f"disk:{disk}", "--cmdline", cmdline, "-p", "hotplug=native"]
    return [*options, "--rundir", str(rundir), "--json", "-"]


@pytest.mark.xdist_group("disk")
@pytest.mark.seconds(30)
def test_a_verdict_on_a_customers_disk(customer: Path, tmp_path: Path) -> None:
    before = sha256(customer)
    result = run_testbed("run", "disk-unplug", *setup_of(customer, "@image:2 loglevel=7", tmp_path))
    assert result.returncode == 0, result.stderr
    (cell,) = json.loads(result.stdout)["cells"]
    assert cell["verdict"] == "good"
    assert cell["cmdline"] == "root=UUID=x ro single loglevel=7"
    assert cell["kernel"].startswith("customer.raw ")
    assert sha256(customer) == before, "the image is never written to"


@pytest.mark.extended
@pytest.mark.xdist_group("disk")
@pytest.mark.seconds(120)
def test_the_culprit_in_a_disk_nobody_has_looked_into(customer: Path, tmp_path: Path) -> None:
    result = run_testbed("bisect", "disk-unplug", *setup_of(customer, "@image", tmp_path))
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["culprits"] == ["pcie_aspm=off"]


@pytest.mark.extended
@pytest.mark.seconds(20)
def test_all_modules_are_taken_where_depmod_has_not_worked(tmp_path: Path) -> None:
    stock = ensure_image("debian", progress=quiet)
    root = {name: content for name, content in installed(stock, tmp_path).items() if "/modules." not in name}
    assert stock.bzimage
    root[f"boot/vmlinuz-{stock.kernel}"] = stock.bzimage.read_bytes()
    disk = ext4(tmp_path, root, name="bare", mib=64).rename(tmp_path / "bare.raw")
    built = ensure_image(f"disk:{disk}", progress=quiet)
    try:
        assert (built.kernel, built.modules) == (stock.kernel, stock.modules)
    finally:
        remove_image(f"disk:{disk}")


@pytest.mark.seconds(20)
def test_two_systems_must_be_told_apart(tmp_path: Path) -> None:
    files = {"etc/os-release": b"NAME=A\n", f"boot/vmlinuz-{RELEASE}": bzimage(), "boot/grub/grub.cfg": b""}
    systems = [ext4(tmp_path, {**files, "etc/os-release": f"NAME={name}\n".encode()}, name=name) for name in "AB"]
    disk = mbr_disk(tmp_path / "two.img", systems)
    records = survey_disk(DiskName(file=disk), progress=quiet)
    assert records.table == "mbr"
    assert [(each.name, each.volume, len(each.kernels)) for each in systems_of(records)] == [
        ("A", "vda1", 1),
        ("B", "vda2", 1),
    ]
    result = run_testbed("image", "build", f"disk:{disk}")
    assert result.returncode == 2
    assert "holds 2 systems" in result.stderr
    assert "system=1 is A on vda1; system=2 is B on vda2" in result.stderr


@pytest.mark.extended
@pytest.mark.seconds(15)
def test_arrays_are_run_degraded_ones_too(tmp_path: Path) -> None:
    content = bytes(range(256)) * 4096
    whole = [
        *array_members(tmp_path, ext4(tmp_path, {"etc/crontab": content}, name="mirror"), level=1),
        *array_members(tmp_path, ext4(tmp_path, {"etc/crontab": content}, name="stripes"), level=0),
    ]
    half = array_members(tmp_path, ext4(tmp_path, {"etc/crontab": content}, name="half"), level=1)[1]
    lost = array_members(tmp_path, ext4(tmp_path, {"etc/crontab": content}, name="lost"), level=0)[1]
    disk = gpt_disk(tmp_path / "arrays.raw", [*whole, half, lost])
    records = survey_disk(DiskName(file=disk), progress=quiet)
    found = [(each.name, each.type, each.label, each.error) for each in records.volumes]
    assert found == [
        *((f"vda{number}", "md", "", "") for number in range(1, 7)),
        ("md0", "ext4", "", ""),
        ("md1", "ext4", "", ""),
        ("md2", "ext4", "", ""),
        ("md3", "array", "lost", ""),
    ]
    for name in ("md0", "md1", "md2"):
        assert records.volume(name).files["etc/crontab"].content == content


@pytest.mark.extended
@pytest.mark.network
@pytest.mark.seconds(240)
@pytest.mark.parametrize(("suite", "name"), [("", "Debian GNU/Linux"), ("bullseye", "11 (bull"), ("trixie", "13 (tri")])
def test_a_whole_debian(suite: str, name: str) -> None:
    disk = debian_disk(suite, crontab=CRONTAB)
    (system,) = systems_of(survey_disk(DiskName(file=disk), progress=quiet))
    assert name in system.name
    (kernel,) = system.kernels
    assert (kernel.volume, kernel.path) == ("vda1", f"boot/vmlinuz-{kernel.release}")
    assert kernel.modules
    assert kernel.modules[1].endswith(kernel.release)
    said = [line for file in system.settings for line, _ in settings_of(f"/{file.path}", file.text)]
    assert said == [CRONTAB.strip()], "of all its udev and modprobe rules none touches PCI"
