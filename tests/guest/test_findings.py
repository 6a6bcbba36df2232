"""docs/findings: each reproducer, run on every QEMU of this host, shows what its page says of that version."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from testbed.host.qemu import find_qemu
from testbed.host.qemu_catalog import known_qemus
from testbed.host.tools import run_tool
from testbed.image.store import ensure_image
from tests.guest.conftest import qemu_with

if TYPE_CHECKING:
    from testbed.image.store import Image

FOLDER = Path(__file__).parents[2] / "docs" / "findings"
#: exit status of a reproducer
SEEN, NOT_SEEN = 0, 1
ALL = ("5.2", "7.2", "10.0", "11.1")
WITH_IGB = ("10.0", "11.1")
NONE: tuple[str, ...] = ()

#: a reproducer and its arguments, and the versions on which it showed the fault and on which it did not
ANSWERS = [
    ("e1000e-serial-number.sh", ALL, NONE),
    ("aer-header-log.sh", ALL, NONE),
    ("errors-never-sent.sh e1000e", ALL, NONE),
    ("errors-never-sent.sh igb", WITH_IGB, NONE),
    ("errors-never-sent.sh virtio", NONE, ("7.2", *WITH_IGB)),
    ("error-bars-migration.sh error", ("7.2", *WITH_IGB), NONE),
    ("error-bars-migration.sh none", NONE, ("7.2", *WITH_IGB)),
    ("link-never-active.sh acpi", ("7.2", *WITH_IGB), NONE),
    ("link-never-active.sh native", NONE, ("7.2", *WITH_IGB)),
    ("xhci-no-device-deleted.sh qemu-xhci", ("7.2", "10.0.2 "), ("10.0.13", "11.1")),
    ("xhci-no-device-deleted.sh usb-ehci", NONE, ("7.2", *WITH_IGB)),
    ("amd-iommu-ioapic.sh", ("10.0.2 ",), ("5.2", "7.2", "10.0.13", "11.1")),
    ("vf-enable-after-flr.sh nvme", ("7.2",), WITH_IGB),
    ("vf-enable-after-flr.sh igb", NONE, WITH_IGB),
    ("bus-named-like-a-property.sh shpc", ALL, NONE),
    ("bus-named-like-a-property.sh br", NONE, ALL),
]


def reproduced(script: str, *arguments: str | Path, qemu: str) -> tuple[int, str]:
    """Run a reproducer; return its exit status and what it printed."""
    environment = {**os.environ, "QEMU": shlex.join(find_qemu(qemu).command)}
    command = ["sh", FOLDER / script, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.seconds(2)
@pytest.mark.parametrize("qemu", known_qemus())
@pytest.mark.parametrize(("command", "seen", "not_seen"), ANSWERS, ids=[command for command, *_ in ANSWERS])
def test_without_a_guest(command: str, seen: tuple[str, ...], not_seen: tuple[str, ...], qemu: str) -> None:
    version = find_qemu(qemu).version
    if not version.startswith((*seen, *not_seen)):
        pytest.skip(f"the page says nothing of QEMU {version}")
    script, *arguments = command.split()
    status, text = reproduced(script, *arguments, qemu=qemu)
    assert status == (SEEN if version.startswith(seen) else NOT_SEEN), text


@pytest.fixture(params=["debian", "debian-backports"])
def stock(request: pytest.FixtureRequest) -> Image:
    """Return an image that holds a distribution's kernel and its modules."""
    return ensure_image(request.param, progress=lambda _: None)


@pytest.fixture
def kernel(stock: Image, tmp_path: Path) -> tuple[Path, Path]:
    """Return the stock kernel and the folder of its modules, as a distribution installs them."""
    assert stock.bzimage
    run_tool(["bsdtar", "-x", "-f", stock.initramfs, "-C", tmp_path, "lib/modules"], doing="unpacking modules")
    return stock.bzimage, tmp_path / "lib" / "modules"


@pytest.mark.extended
@pytest.mark.seconds(20)
@pytest.mark.parametrize(("mode", "expected"), [("acpi", SEEN), ("native", NOT_SEEN)])
def test_a_link_is_reset(kernel: tuple[Path, Path], mode: str, expected: int) -> None:
    status, text = reproduced("link-reset.sh", *kernel, mode, qemu=qemu_with("e1000e"))
    assert status == expected, text
    assert ("Link Active not set" in text) == (expected == SEEN)


@pytest.mark.extended
@pytest.mark.seconds(120)
@pytest.mark.parametrize("severity", ["fatal", "non-fatal"])
def test_a_vf_is_out_of_order_after_its_pf_recovered(kernel: tuple[Path, Path], severity: str) -> None:
    status, text = reproduced("vf-after-recovery.sh", *kernel, severity, qemu=qemu_with("igb"))
    assert status == SEEN, text
    assert ("VF no-traffic" in text and "after down-up VF works" in text) == (severity == "fatal"), text


@pytest.mark.extended
@pytest.mark.seconds(20)
def test_a_reader_waits_for_the_remover(kernel: tuple[Path, Path]) -> None:
    status, text = reproduced("numvfs-reader.sh", *kernel, qemu=qemu_with("igb"))
    assert status == SEEN, text
    assert "reader's stack: [<0>] sriov_numvfs_show" in text


@pytest.mark.extended
@pytest.mark.seconds(20)
@pytest.mark.parametrize("qemu", known_qemus())
@pytest.mark.parametrize("form", ["vmlinux", "bzimage"])
def test_a_guest_wakes_unless_its_kernel_is_an_elf(stock: Image, form: str, qemu: str) -> None:
    file = {"vmlinux": stock.vmlinux, "bzimage": stock.bzimage}[form]
    assert file
    status, text = reproduced("pvh-suspend.sh", file, qemu=qemu)
    assert status == (SEEN if form == "vmlinux" else NOT_SEEN), text


@pytest.mark.extended
@pytest.mark.seconds(9)
@pytest.mark.parametrize("qemu", known_qemus())
def test_a_guest_without_its_second_cpu_wakes(qemu: str) -> None:
    version = find_qemu(qemu).version
    if not version.startswith(("7.2", *WITH_IGB)):
        pytest.skip(f"the page says nothing of QEMU {version}")
    status, text = reproduced("cpu-unplug-wakeup.sh", qemu=qemu)
    assert status == (SEEN if version.startswith("7.2") else NOT_SEEN), text


@pytest.mark.extended
@pytest.mark.seconds(25)
@pytest.mark.parametrize(("reserve", "expected"), [((), SEEN), (("4",), NOT_SEEN)], ids=["default", "bus-reserve"])
def test_a_bridge_without_a_bus(kernel: tuple[Path, Path], reserve: tuple[str, ...], expected: int) -> None:
    status, text = reproduced("bridge-without-bus.sh", kernel[0], *reserve, qemu=qemu_with("pcie-pci-bridge"))
    assert status == expected, text
    assert ("RIP: 0010:shpc_init" in text) == (expected == SEEN)
