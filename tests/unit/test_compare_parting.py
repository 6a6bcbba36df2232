"""At which event one cell went on and another did not."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from testbed.campaign.compare.parting import Moment, parting, story
from testbed.campaign.record.timeline import Entry, Track

DELETED = '{"device": "dev1", "path": "/machine/peripheral/dev1"}'


def entry(track: Track, text: str, guest: float, **given: Any) -> Entry:
    plain: dict[str, Any] = {"measured": True, "evidence": "kernel.log:7"}
    return Entry(wall=guest, guest=guest, track=track, text=text, **{**plain, **given})


def unplug(*answers: Entry) -> list[Moment]:
    return story(
        [
            entry(Track.KERNEL, "acpiphp: Slot [1] registered", 1.0),
            entry(Track.ACTION, "stimulus: device_del dev1", 8.0, stimulus=True),
            entry(Track.GUEST, 'held {"for_seconds": 30.0, "guest_seconds": 10.0}', 10.0),
            entry(Track.ACTION, 'device_del {"id": "dev1"}', 10.0, measured=False),
            entry(Track.QMP, "return {}", 10.0, answer=True),
            *answers,
        ]
    )


def deleted(guest: float) -> Entry:
    return entry(Track.QMP, f"event DEVICE_DELETED {DELETED}", guest, measured=False, evidence="qmp.jsonl:12")


def in_sysfs(guest: float, how: str, address: str = "0000:01:00.0") -> Entry:
    return entry(Track.GUEST, f"/sys/bus/pci/devices/{address} is {how}", guest, evidence="shell.jsonl:9")


def test_a_guest_that_ignores_the_request_parts_after_it() -> None:
    good = unplug(in_sysfs(10.4, "gone", "0000:00:04.0"), deleted(10.5))
    bad = unplug(in_sysfs(40.0, "there"))
    found = parting(bad, good)
    assert found
    assert found.after == "device_del dev1"
    lacks, has = found.moments
    assert str(has) == "/sys/bus/pci/devices/0000:00:04.0 is gone (+0.4 s)"
    assert str(lacks) == "/sys/bus/pci/devices/0000:01:00.0 is there (+30.0 s)"


def test_witnesses_in_another_order_at_other_addresses_part_nowhere() -> None:
    one = unplug(in_sysfs(10.4, "gone", "0000:00:04.0"), deleted(10.5))
    other = unplug(deleted(16.2), in_sysfs(16.3, "gone"))
    assert parting(one, other) is None


def test_the_kernel_s_words_lead_to_the_event_that_one_lacks() -> None:
    pressed = entry(Track.KERNEL, "pcieport 0000:00:02.0: pciehp: Slot(1): Attention button pressed", 10.1)
    gone = parting(unplug(pressed, deleted(16.0)), unplug(pressed, in_sysfs(40.0, "there")))
    assert gone
    assert "Attention button pressed" in gone.after
    assert str(gone.moments[0]) == "event DEVICE_DELETED dev1 (about +6.0 s)"


def test_housekeeping_and_looks_are_no_part_of_the_story() -> None:
    idle = [
        entry(Track.QMP, 'event RTC_CHANGE {"offset": 0}', 11.0),
        entry(Track.QMP, "qom-list {}", 11.0),
        entry(Track.ACTION, "stop", 11.0),
        entry(Track.CONSOLE, "pciehp: on the console too", 11.0),
        entry(Track.KERNEL, "NET: Registered PF_INET6 protocol family", 11.0),
        entry(Track.QMP, 'event SHUTDOWN {"guest": false, "reason": "host-qmp-quit"}', 12.0),
    ]
    assert unplug(*idle) == unplug()


def test_a_cell_that_never_reached_its_stimulus_has_no_story() -> None:
    assert story([entry(Track.KERNEL, "acpiphp: Slot [1] registered", 1.0)]) == []


def test_a_message_that_was_cut_is_told_as_it_is() -> None:
    cut = entry(Track.QMP, 'event ACPI_DEVICE_OST {"info": {"dev… (900 characters)', 11.0)
    assert unplug(cut)[-1].text == cut.text


MOMENTS = st.lists(
    st.builds(
        Moment,
        seconds=st.floats(0, 30),
        text=st.sampled_from(["asked", "pressed", "link down", "deleted"]),
        evidence=st.just("kernel.log:1"),
    ),
    max_size=8,
).map(lambda moments: sorted(moments, key=lambda each: each.seconds))


@given(MOMENTS, MOMENTS)
def test_stories_part_exactly_if_they_do_not_tell_the_same_events(one: list[Moment], other: list[Moment]) -> None:
    same = sorted(each.text for each in one) == sorted(each.text for each in other)
    assert (parting(one, other) is None) is same
