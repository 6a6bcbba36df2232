"""What `render --from-libvirt` suggests to run can be run: its question is judged, whatever the domain has."""

from __future__ import annotations

import shlex
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

PORTS = "<controller type='pci' model='pcie-root'/>" + "<controller type='pci' model='pcie-root-port'/>" * 3
DISK = "<disk type='file' device='disk'><target dev='vda' bus='virtio'/></disk>"
SATA = "<disk type='file' device='disk'><target dev='sda' bus='sata'/></disk>"
NIC = "<interface type='network'><model type='e1000e'/></interface>"
IDE = "<disk type='file' device='disk'><target dev='hda' bus='ide'/></disk>"


@pytest.mark.extended
@pytest.mark.seconds(60)
@pytest.mark.parametrize(
    ("machine", "devices", "features", "verdict"),
    [
        ("pc-q35-rhel9.2.0", PORTS + DISK, "<acpi/>", "good"),
        ("pc-q35-99.0", PORTS + SATA + NIC, "<acpi/>", "good"),
        ("pc-i440fx-bionic", IDE, "<acpi/>", "good"),
        ("pc-i440fx-7.2", DISK, "", "bad"),  # without ACPI nobody serves the root bus
    ],
)
def test_what_is_suggested_is_judged(tmp_path: Path, machine: str, devices: str, features: str, verdict: str) -> None:
    start = f"<memory unit='GiB'>1024</memory><vcpu>96</vcpu><os><type machine='{machine}'>hvm</type></os>"
    text = f"<domain>{start}<features>{features}</features><devices>{devices}</devices></domain>"
    (tmp_path / "d.xml").write_text(text)
    bed = [sys.executable, "-m", "testbed"]
    printed = subprocess.run(
        [*bed, "render", "--from-libvirt", "d.xml"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    (command,) = (line for line in printed.stdout.splitlines() if line.startswith("testbed run "))
    done = subprocess.run([*bed, *shlex.split(command)[1:]], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == {"good": 0, "bad": 1}[verdict], done.stdout
