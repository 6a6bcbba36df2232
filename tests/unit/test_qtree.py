"""QEMU's device tree as its monitor prints it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from testbed.machine.qtree import parse_tree

TREE = """bus: main-system-bus
  type System
  dev: ioapic, id ""
    gpio-in "" 24
    version = 32 (0x20)
    mmio 00000000fec00000/0000000000001000
  dev: q35-pcihost, id ""
    x-pci-hole64-fix = true
    bus: pcie.0
      type PCIE
      dev: pcie-root-port, id "rp1"
        chassis = 1 (0x1)
        hotplug = true
        romfile = ""
        class PCI bridge, addr 00:02.0, pci id 1b36:000c (sub 0000:0000)
        bar 0: mem at 0xfe203000 [0xfe203fff]
        bus: rp1
          type PCIE
          dev: virtio-blk-pci, id "dev1"
            drive = "disk1"
            class SCSI controller, addr 01:00.0, pci id 1af4:1042 (sub 1af4:1100)
            bus: virtio-bus
              type virtio-pci-bus
              dev: virtio-blk-device, id ""
                serial = "dev1"
      dev: mch, id ""
        class Host bridge, addr 00:00.0, pci id 8086:29c0 (sub 1af4:1100)
  dev: fw_cfg_io, id ""
"""


def test_each_device_has_its_own_properties_and_bus() -> None:
    devices = {device.id or device.driver: device for device in parse_tree(TREE)}
    assert list(devices) == ["ioapic", "virtio-blk-device", "dev1", "rp1", "mch", "q35-pcihost", "fw_cfg_io"]
    assert devices["rp1"].properties == {"chassis": "1 (0x1)", "hotplug": "true", "romfile": '""'}
    assert devices["dev1"].properties == {"drive": '"disk1"'}
    assert devices["virtio-blk-device"].properties == {"serial": '"dev1"'}
    assert devices["q35-pcihost"].properties == {"x-pci-hole64-fix": "true"}
    assert {name: device.bus for name, device in devices.items()} == {
        "ioapic": "main-system-bus",
        "virtio-blk-device": "virtio-bus",
        "dev1": "rp1",
        "rp1": "pcie.0",
        "mch": "pcie.0",
        "q35-pcihost": "main-system-bus",
        "fw_cfg_io": "main-system-bus",
    }


def test_pci_devices_are_known_by_their_address() -> None:
    assert {device.id or device.driver for device in parse_tree(TREE) if device.is_pci} == {"rp1", "dev1", "mch"}


@given(st.text(max_size=300))
def test_any_text_is_read(text: str) -> None:
    assert all(device.driver for device in parse_tree(text))
