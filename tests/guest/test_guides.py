"""The guides by problem: every command is run in the page's order, and exits as the page says."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from testbed.host.packages import find_program
from testbed.host.tools import run_tool

from ..unit.test_docs import ROOT
from .test_disk_image import customer

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["customer"]  # a fixture

pytestmark = pytest.mark.extended

GUIDES = ROOT / "docs" / "guides"
_COMMAND = re.compile(r"^\$ testbed (.*?)(?:    # exit (\d+): .*)?$", re.MULTILINE)
#: of a host whose igb had an error
_HOST_LOG = """\
[    0.000000] Linux version 6.1.0-57-amd64 (debian-kernel@lists.debian.org) (gcc-12) #1 SMP Debian 6.1.192-3
[    0.000000] Command line: console=ttyS0 intel_iommu=on iommu=pt
[  102.101000] pcieport 0000:00:02.0: AER: Uncorrected (Non-Fatal) error received: 0000:01:00.0
[  102.102000] igb 0000:01:00.0: PCIe Bus Error: severity=Uncorrected (Non-Fatal), type=Transaction Layer
[  102.103000] igb 0000:01:00.0:   device [8086:10c9] error status/mask=00008000/00000000
[  102.104000] igb 0000:01:00.0:    [15] CmpltAbrt              (First)
[  102.400000] pcieport 0000:00:02.0: AER: device recovery successful
"""


def run_testbed(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "testbed", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def obey(guide: str, folder: Path) -> None:
    """Run a guide's commands."""
    shown = _COMMAND.findall((GUIDES / guide).read_text("utf-8"))
    assert shown
    for arguments, code in shown:
        done = run_testbed(folder, *shlex.split(arguments))
        assert done.returncode == int(code or 0), f"testbed {arguments}\n{done.stdout}{done.stderr}"


@pytest.mark.seconds(60)
def test_a_guest_that_ignores_unplug(tmp_path: Path) -> None:
    run_testbed(tmp_path, "run", "disk-unplug", "-m", "q35[hotplug=native]", "--cmdline", "pcie_aspm=off")
    (log,) = tmp_path.glob("testbed-runs/*/disk-unplug/*/kernel.log")
    shutil.copy(log, tmp_path / "dmesg.txt")
    obey("ignored-unplug.md", tmp_path)


@pytest.mark.seconds(120)
def test_a_vm_that_stopped_with_an_internal_error(tmp_path: Path) -> None:
    (tmp_path / "host-dmesg.txt").write_text(_HOST_LOG)
    obey("internal-error.md", tmp_path)


@pytest.mark.seconds(60)
def test_a_user_space_driver_that_hangs(tmp_path: Path) -> None:
    shutil.copy(ROOT / "tests/data/kvm/efault.trace", tmp_path / "trace.txt")
    obey("hanging-driver.md", tmp_path)


@pytest.mark.seconds(60)
def test_sriov_that_does_not_come_up(tmp_path: Path) -> None:
    shutil.copy(ROOT / "tests/data/pci/nvme-sriov-7.2.x.txt", tmp_path / "lspci.txt")
    obey("sriov-set-up.md", tmp_path)


@pytest.mark.seconds(60)
@pytest.mark.skipif(not find_program("qemu-img"), reason="this host has no qemu-img")
def test_a_customers_image(customer: Path, tmp_path: Path) -> None:
    run_tool(["qemu-img", "convert", "-O", "qcow2", customer, tmp_path / "customer.qcow2"], doing="making a qcow2")
    obey("customers-image.md", tmp_path)


def test_a_guide_is_short() -> None:
    assert [page.name for page in GUIDES.glob("*.md") if len(page.read_text("utf-8").splitlines()) > 60] == []
