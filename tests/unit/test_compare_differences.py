"""What differs between the facts of two cells, and between their results."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from testbed.campaign.compare.differences import divergence, fact_differences, result_differences
from testbed.campaign.compare.parting import Moment
from testbed.model.fact import Fact, FactKind
from testbed.model.outcome import Verdict
from tests.unit.compared import fact, ran

LABELS = ("q35", "i440fx")
FACTS = st.lists(
    st.builds(
        fact,
        st.sampled_from(FactKind),
        st.sampled_from(["rp1", "dev1", "pcieport 0: AER"]),
        st.sampled_from(["a", "b"]),
        st.sampled_from(["", "slot"]),
    ),
    max_size=12,
    unique_by=lambda each: (each.kind, each.subject, each.aspect),
)


@given(FACTS)
def test_a_cell_does_not_differ_from_itself(facts: list[Fact]) -> None:
    assert fact_differences("s", LABELS, facts, facts[::-1], every_line=True) == []


@given(FACTS, FACTS)
def test_differences_are_the_same_from_both_sides(one: list[Fact], other: list[Fact]) -> None:
    there = fact_differences("s", LABELS, one, other, every_line=True)
    back = fact_differences("s", LABELS[::-1], other, one, every_line=True)
    told = {(each.kind, each.subject, each.aspect, tuple(sorted(each.values.items()))) for each in there}
    assert told == {(each.kind, each.subject, each.aspect, tuple(sorted(each.values.items()))) for each in back}


@given(FACTS, FACTS)
def test_every_difference_is_one_and_has_its_evidence(one: list[Fact], other: list[Fact]) -> None:
    for each in fact_differences("s", LABELS, one, other, every_line=True):
        assert each.values["q35"] != each.values["i440fx"]
        assert set(each.evidence) == {label for label, value in each.values.items() if value is not None}


def test_who_controls_hot_plug_is_told_before_the_tree() -> None:
    one = [fact(FactKind.PCI, "rp1"), fact(FactKind.CONTROL, "hot-plug", "nobody", evidence="kernel.log:179")]
    other = [fact(FactKind.CONTROL, "hot-plug", "ACPI (acpiphp)", evidence="kernel.log:173")]
    control, tree = fact_differences("disk-unplug", LABELS, one, other)
    assert (control.subject, control.values) == ("hot-plug", {"q35": "nobody", "i440fx": "ACPI (acpiphp)"})
    assert control.evidence == {"q35": "kernel.log:179", "i440fx": "kernel.log:173"}
    assert (tree.subject, tree.values) == ("rp1", {"q35": "there", "i440fx": None})


def test_a_thing_that_one_side_lacks_is_told_once() -> None:
    port = [
        fact(FactKind.PCI, "rp1"),
        fact(FactKind.CAPABILITY, "rp1", "HotPlug+", "slot"),
        fact(FactKind.DRIVER, "rp1", "pcieport"),
        fact(FactKind.QEMU, "rp1", "pcie-root-port on pcie.0"),
        fact(FactKind.QEMU, "rp1", "true", "hotplug"),
        fact(FactKind.SLOT, "1", "served by pciehp"),
        fact(FactKind.SLOT, "1", "0000:01:00", "address"),
    ]
    told = [(each.kind, each.aspect) for each in fact_differences("s", LABELS, port, [])]
    assert told == [("slot", ""), ("pci", ""), ("qemu", "")]


def test_a_driver_of_what_is_no_pci_function_is_told() -> None:
    (only,) = fact_differences("s", LABELS, [fact(FactKind.DRIVER, "virtio0", "virtio_blk")], [])
    assert only.values == {"q35": "virtio_blk", "i440fx": None}


def test_other_lines_of_the_log_count_only_if_asked_for() -> None:
    lines = [fact(FactKind.LOG, "acpiphp: Slot [<n>] registered"), fact(FactKind.LOG, "NET: Registered PF_INET6")]
    assert [each.subject for each in fact_differences("s", LABELS, lines, [])] == [lines[0].subject]
    assert len(fact_differences("s", LABELS, lines, [], every_line=True)) == 2


def test_a_verdict_is_told_with_what_the_guest_did() -> None:
    (told,) = result_differences("s", ran("a", Verdict.BAD, 30.0), ran("b", Verdict.GOOD, 0.3))
    assert (told.kind, told.values) == ("verdict", {"a": "bad (ignored)", "b": "good (deleted)"})


def test_a_latency_is_told_only_beyond_the_tolerance() -> None:
    slow, quick, quicker = ran("a", Verdict.GOOD, 6.6), ran("b", Verdict.GOOD, 0.3), ran("c", Verdict.GOOD, 0.1)
    (told,) = result_differences("s", slow, quick)
    assert (told.kind, told.values) == ("latency", {"a": "6.6 guest s", "b": "0.3 guest s"})
    assert list(result_differences("s", quick, quicker)) == []


def test_a_side_that_never_reached_its_stimulus_has_no_story_to_part_from() -> None:
    asked = Moment(seconds=0.0, text="device_del dev1", evidence="qmp.jsonl:9")
    assert divergence("s", LABELS, [asked], []) is None
