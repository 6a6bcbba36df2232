"""The sockets for people: where they are, and that a machine which is not to be attached to has none."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from testbed.host.accel import Accel
from testbed.machine.argv import Boot, Channels, qemu_argv
from testbed.machine.attach import Attach
from testbed.machine.device_tree import LiveDevice
from testbed.model.pci import Bdf
from testbed.model.spec import MachineSpec, Slot
from testbed.verbs.plug import first_free

if TYPE_CHECKING:
    from collections.abc import Callable

    from testbed.host.qemu import Qemu


def argv(qemu: Qemu, attach: Attach | None) -> list[str]:
    return qemu_argv(
        spec=MachineSpec(machine_type="q35"),
        boot=Boot(kernel=Path("/k"), initramfs=Path("/i"), cmdline=""),
        channels=Channels(qmp="/run/1.qmp", console="/run/2.console", shell="/run/3.shell"),
        qemu=qemu,
        accel=Accel(name="tcg", reason="test"),
        folder=Path("/runs"),
        attach=attach,
    )


def test_they_stand_beside_the_machines_own_sockets() -> None:
    attach = Attach.beside("/run/t/4.qmp")
    assert attach == Attach(console="/run/t/4.attach-console", qmp="/run/t/4.attach-qmp", gdb="/run/t/4.attach-gdb")


def test_qemu_serves_a_monitor_and_the_gdb_stub_and_is_else_the_same(paper_qemu: Callable[..., Qemu]) -> None:
    plain, open_ = (argv(paper_qemu(), attach) for attach in (None, Attach.beside("/run/1.qmp")))
    at = next(index for index, word in enumerate(open_) if "attach" in word) - 1
    added = open_[at : at + len(open_) - len(plain)]
    assert open_[:at] + open_[at + len(added) :] == plain
    assert added == [
        *("-chardev", "socket,id=attach-qmp,path=/run/1.attach-qmp,server=on,wait=off"),
        *("-mon", "chardev=attach-qmp,mode=control"),
        *("-chardev", "socket,id=attach-gdb,path=/run/1.attach-gdb,server=on,wait=off"),
        *("-gdb", "chardev:attach-gdb"),
    ]


def test_the_first_slot_without_a_device_is_free() -> None:
    slots = [Slot(bus="pci.0", addr="0x10"), Slot(bus="pci.0", addr="0x11"), Slot(bus="rp2")]
    one = LiveDevice(id="hot1", driver="e1000", bus="pci.0")
    other = LiveDevice(id="hot2", driver="e1000", bus="rp2")
    backend = LiveDevice(id="no-pci", driver="usb-tablet", bus="usb.0")
    places = {"hot1": Bdf(0, 0, 0x10, 0), "hot2": Bdf(0, 2, 0, 0)}
    assert first_free(slots, [], {}) == slots[0]
    assert first_free(slots, [one, backend], places) == slots[1]
    assert first_free(slots[2:], [one, other], places) is None
