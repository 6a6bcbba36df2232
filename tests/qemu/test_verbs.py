"""The verbs on a real QEMU that no guest runs in: whatever is said, the machine is there after it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from testbed.machine.template import load_template
from testbed.model.errors import BedError, BrokenError, InputError, RefusedError
from testbed.verbs.verbs import Verbs

if TYPE_CHECKING:
    from .conftest import LaunchMachine

#: and what each is answered with
WRONG: list[tuple[str, type[BedError], str]] = [
    ("plug virtio-blk on rp2 driver=nvme", InputError, "the driver comes first"),
    ("plug virtio-blk on rp2 id=rp1", InputError, "there is already a device rp1"),
    ("plug virtio-blk on rp2 id='a b'", InputError, "wanted an id"),
    ("plug virtio-blk on rp2 addr=0x40", RefusedError, "addr"),
    ("plug virtio-blk addr=2", RefusedError, "pcie.0"),
    ("plug virtio-blk drive=nothing", RefusedError, "find value 'nothing'"),
    ("plug virtio-blk colour=red", InputError, "property 'colour' does not exist"),
    ("plug virtio-blk num-queues=many", RefusedError, "num-queues"),
    ("plug e1000 mac=zz", RefusedError, "mac"),
    ("plug pc-dimm", RefusedError, "slots"),
    ("plug usb-tablet", RefusedError, "No 'usb-bus' bus found"),
    ("plug scsi-hd on rp2", RefusedError, "can't go on PCIE bus"),
    ("plug usb-tablet addr=3", InputError, "usb-tablet is not a PCI device"),
    ("plug virtio-blk on dev1", RefusedError, "Bus 'dev1' not found"),
    ("unplug nothing", InputError, "device 'nothing' does not exist"),
    ("inject 'a b' DLP", InputError, "is not an id"),
    ("inject nothing DLP", RefusedError, "not found"),
    ("sh true", BrokenError, "no guest answers: none has booted"),
    ("wait NO_SUCH", InputError, "no event NO_SUCH"),
    ("device_add", RefusedError, "'driver' is missing"),
    ("device_add driver=nothing", RefusedError, "'nothing' is not a valid device model name"),
    ('{"execute": "device_add", "arguments": {"driver": [3]}}', RefusedError, "driver"),
    ("object-add qom-type=memory-backend-ram id=m size=much", InputError, "size: got 'much'"),
    ("qom-get path=/nowhere property=x", RefusedError, "'/nowhere' not found"),
    ("qom-get " + "[" * 100_000, InputError, "not key=value"),
    ("qom-get {" + '"a":[' * 100_000, InputError, "not JSON"),
    ("stopp", InputError, "neither a verb nor a QMP command"),
    ("\x00", InputError, "neither a verb nor a QMP command"),
    ("qmp \udcff", InputError, "half of one"),
    ('qom-get {"path": "\\ud800", "property": "x"}', InputError, "half of one"),
]


async def test_wrong_words_are_answered_and_the_machine_goes_on(launched: LaunchMachine) -> None:
    spec = load_template("q35").spec({"memory": 128, "devices": []})
    async with launched(spec) as machine:
        verbs = Verbs(machine, None)
        await verbs.start()
        for line, error, words in WRONG:
            with pytest.raises(error, match=re.escape(words)):
                await verbs.obey(line)
        assert (await verbs.obey("query-status")).value["status"] == "prelaunch"


async def test_a_device_of_a_chosen_id_comes_and_goes_without_a_guest(launched: LaunchMachine) -> None:
    spec = load_template("q35").spec({"memory": 128, "devices": []})
    async with launched(spec) as machine:
        verbs = Verbs(machine, None)
        await verbs.start()
        plugged = await verbs.obey("plug virtio-scsi on rp2 id=foo")
        assert plugged.text == "foo on rp2: QEMU has it; not watched: no guest answers: none has booted"
        assert "foo" in (await verbs.obey("devices")).text
        assert "not watched" in (await verbs.obey("unplug foo")).text
        assert "not watched" in (await verbs.obey("system_reset")).text
        assert (await verbs.obey("wait RESET within 5")).ok
        with pytest.raises(BrokenError, match="none has booted"):
            await verbs.obey("sh true")
