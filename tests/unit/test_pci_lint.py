"""`testbed pci lint`: each rule has a dump that breaks it and is silent on real ones; bad dumps name their line."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from testbed.lint.dump import parse_dump
from testbed.lint.linter import RULES, lint_functions
from testbed.lint.report import joined
from testbed.lint.rule import Severity
from testbed.lint.sysfs import parse_config
from testbed.model.config_space import SIZES
from testbed.model.errors import InputError
from testbed.model.pci import Bdf
from tests.unit.config_bytes import AER_AT, EXPRESS_AT, MSIX_AT, SRIOV_AT, Bytes, as_lspci

if TYPE_CHECKING:
    from collections.abc import Sequence

    from testbed.lint.function import Function
    from testbed.lint.report import Report

DATA = Path(__file__).parent.parent / "data" / "pci"
IGB = DATA / "igb-sriov-10.0.vvxxxx.txt"
NVME_X = DATA / "nvme-sriov-7.2.x.txt"


def machine(text: str, source: str = "dump.txt") -> tuple[Function, ...]:
    """The functions of a text that is one machine, all of them whole."""
    dump = parse_dump(text, source=source)
    assert dump.skipped == ()
    (functions,) = dump.machines
    return functions


def report_of(path: Path) -> Report:
    return lint_functions(machine(path.read_text(), path.name))


def port(secondary: int = 1, subordinate: int = 1) -> Bytes:
    """A root port with ARI forwarding and a memory window of 0xfe800000..0xfebfffff."""
    made = Bytes().express(port_type=4).u16(EXPRESS_AT + 0x28, 0x20)
    return made.bridge(secondary=secondary, subordinate=subordinate)


def pf(*, vfs: int = 2, offset: int = 0x80, stride: int = 2) -> Bytes:
    return Bytes().express().aer().sriov(vfs=vfs, offset=offset, stride=stride)


def below(*functions: Function) -> tuple[Function, ...]:
    """The functions, and the root port 00:02.0 above bus 1."""
    return (port().function("00:02.0"), *functions)


def one(made: Bytes) -> tuple[Function, ...]:
    return (made.function(),)


#: for each rule whose hits are errors, functions that break it and no other
BROKEN: dict[str, tuple[Function, ...]] = {
    "all-ones": machine(as_lspci(b"\xff" * 256)),
    "header-layout": one(Bytes().u8(0x0E, 0x83)),
    "cap-loop": one(Bytes().msix(vectors=1, table=0, pba=0x800).u8(MSIX_AT + 1, MSIX_AT)),
    "cap-pointer": one(Bytes().msix(vectors=1, table=0, pba=0x800).u8(MSIX_AT + 1, 0x10)),
    "cap-size": one(Bytes().msix(vectors=1, table=0, pba=0x800, at=0xF8)),
    "extcap-loop": one(Bytes().express().aer().u32(AER_AT, 0x10010001)),
    "extcap-pointer": one(Bytes().express().aer().u32(AER_AT, 0x04010001)),
    "extcap-size": one(Bytes().express().aer().extended(0xFE0, 0x0010)),
    "bar-type": one(Bytes().u32(0x10, 0xFE800006)),
    "bar-64-last": one(Bytes().u32(0x24, 0xFE800004)),
    "bar-alignment": (Bytes().u32(0x10, 0xFE801000).function(bar_sizes={0: 0x4000}),),
    "bar-overlap": (
        Bytes().u32(0x10, 0xFE800000).function("01:00.0", bar_sizes={0: 0x4000}),
        Bytes().u32(0x10, 0xFE802000).function("01:00.1", bar_sizes={0: 0x1000}),
    ),
    "bridge-buses": (port(1, 4).function("00:02.0"), port(3, 5).function("00:03.0")),
    "bridge-window": below(Bytes().u32(0x10, 0xFE800000).function(bar_sizes={0: 8 << 20})),
    "msix-overlap": one(Bytes().msix(vectors=10, table=0x3, pba=0x83)),
    "msix-outside": (Bytes().msix(vectors=10, table=0x3, pba=0xFFB).function(bar_sizes={3: 0x1000 - 8}),),
    "msix-bir": one(Bytes().msix(vectors=1, table=6, pba=0x806)),
    "msi-both": one(Bytes().msix(vectors=1, table=0, pba=0x800, control=0x8000).capability(0xC0, 5).u16(0xC2, 1)),
    "pcie-payload": one(Bytes().express().u16(EXPRESS_AT + 8, 0x006F)),
    "pcie-payload-path": below(Bytes().express().u16(EXPRESS_AT + 8, 0x002F).function()),
    "pcie-link": one(Bytes().express().u16(EXPRESS_AT + 0x12, 0x85)),
    "sriov-numvfs": below(pf(vfs=9).function()),
    "sriov-initialvfs": below(pf().u16(SRIOV_AT + 0x0C, 4).function()),
    "sriov-offset": below(pf(stride=0).function()),
    "sriov-routing-id": below(pf().function(), pf(vfs=0).function("01:10.2")),
    "sriov-bus-range": below(pf(offset=0x100).function()),
    "sriov-ari": (port().u16(EXPRESS_AT + 0x28, 0).function("00:02.0"), pf().function()),
    "sriov-page-sizes": below(pf().u32(SRIOV_AT + 0x1C, 1).function()),
    "sriov-system-page": below(pf().u32(SRIOV_AT + 0x20, 3).function()),
    "sriov-vf-bar": below(pf().u32(SRIOV_AT + 0x20, 0x10).u32(SRIOV_AT + 0x24, 0xFE808000).function()),
}


@pytest.mark.parametrize("rule", BROKEN)
def test_a_broken_rule_is_the_only_one_named(rule: str) -> None:
    report = lint_functions(BROKEN[rule])
    assert [each.rule for each in report.errors] == [rule] * len(report.errors)
    assert report.errors
    assert all(each.satisfy and each.source for each in report.errors)


def test_there_is_a_dump_for_each_rule_and_each_id_is_one_rule() -> None:
    ids = [rule.id for rule in RULES]
    assert len(set(ids)) == len(ids)
    assert set(BROKEN) == {rule.id for rule in RULES if rule.severity is Severity.ERROR}


@pytest.mark.parametrize("path", [IGB, NVME_X, DATA / "e1000e-7.2.vxxx.txt"], ids=lambda path: path.name)
def test_real_functions_break_no_rule(path: Path) -> None:
    report = report_of(path)
    assert [f"{each.function} {each.rule}: {each.message}" for each in report.errors] == []


def test_a_healthy_machine_made_by_hand_breaks_no_rule_and_leaves_none_unchecked() -> None:
    card = pf().msix(vectors=10, table=0, pba=0x2000, control=0x8000).u32(0x10, 0xFE900000)
    functions = below(card.function(bar_sizes={0: 0x4000}))
    report = lint_functions(functions)
    assert report.errors == ()
    # only of VF BAR 0 no size is known
    assert {each.rule for each in report.not_checked} == {"bar-overlap", "bridge-window"}


#: what each error has to name
VALUES = [
    ("msix-overlap", "BAR 3", "0x0..0x9f", "0x80..0x87", "10 vectors"),
    ("msix-outside", "PBA", "BAR 3", "0xff8..0xfff", "0xff8 bytes"),
    ("cap-loop", "0x81", "0x80"),
    ("extcap-pointer", "0x102", "0x40", "0x100"),
    ("cap-size", "MSI-X", "0xf8", "0xc bytes", "0x100"),
    ("bar-overlap", "BAR 0", "0xfe802000..0xfe802fff", "0xfe800000..0xfe803fff", "0000:01:00.0"),
    ("bridge-buses", "03..05", "0000:00:02.0", "01..04"),
    ("bridge-window", "BAR 0", "0xfe800000..0xfeffffff", "0000:00:02.0", "0xfe800000..0xfebfffff"),
    ("pcie-payload", "1024", "512"),
    ("pcie-link", "32 GT/s", "16 GT/s"),
    ("sriov-numvfs", "NumVFs is 9", "TotalVFs is 8", "InitialVFs is 8"),
    ("sriov-routing-id", "VF 1", "0000:01:10.2"),
    ("sriov-bus-range", "VF 1", "0000:02:00.2", "0000:00:02.0", "01"),
    ("sriov-ari", "0000:00:02.0", "0000:01:10.0"),
    ("sriov-vf-bar", "VF BAR 0", "0xfe808000", "0x10000"),
]


@pytest.mark.parametrize(("rule", "values"), [(rule, values) for rule, *values in VALUES])
def test_an_error_names_what_was_found(rule: str, values: list[str]) -> None:
    messages = [each.message for each in lint_functions(BROKEN[rule]).errors]
    assert any(all(value in message for value in values) for message in messages), messages


def errors_of(*functions: Function) -> list[str]:
    return [each.message for each in lint_functions(functions).errors]


def test_msix_of_an_io_bar_and_of_an_upper_half_are_named() -> None:
    made = Bytes().u32(0x10, 0xC001).u32(0x14, 0xFE000004).msix(vectors=1, table=0, pba=2)
    table, pba = errors_of(made.function())
    assert "table is in BAR 0" in table
    assert "I/O" in table
    assert "PBA is in BAR 2" in pba
    assert "BAR 1" in pba


def test_vfs_of_two_pfs_that_collide_are_named_once() -> None:
    first, second = pf(vfs=4).function("01:00.0"), pf(vfs=4, offset=0x80, stride=1).function("01:00.2")
    found = [message for message in errors_of(*below(first, second)) if message.startswith("VF 0")]
    assert found == ["VF 0 has address 0000:01:10.2, and so has VF 1 of 0000:01:00.0"]


def test_vfs_of_two_pfs_that_interleave_are_fine() -> None:
    second = pf(vfs=4).u32(SRIOV_AT + 0x24, 0xFEA00000)
    assert errors_of(*below(pf(vfs=4).function("01:00.0"), second.function("01:00.1"))) == []


def test_vfs_past_the_last_bus_are_named() -> None:
    above = port(0xFF, 0xFF).function("00:02.0")
    (message,) = errors_of(above, pf(vfs=3, offset=0xF0, stride=8).function("ff:00.0"))
    assert all(value in message for value in ("VF 2 of 3", "bus ff", "offset 0xf0", "stride 0x8"))


def test_vfs_of_the_dump_are_no_collision_and_have_their_pf_named() -> None:
    notes = [f"{each.function}: {each.message}" for each in report_of(IGB).notes if each.rule == "vf-ids"]
    words = "ids read as ffff, as a VF's do: it is VF"
    assert notes == [
        f"0000:03:10.0: {words} 0 of 0000:03:00.0, 8086:10ca",
        f"0000:03:10.2: {words} 1 of 0000:03:00.0, 8086:10ca",
    ]


def test_a_disabled_bar_overlaps_nothing() -> None:
    first, second = BROKEN["bar-overlap"]
    off = Bytes().u32(0x10, 0xFE802000).u16(0x04, 0).function("01:00.1", bar_sizes=second.bar_sizes)
    assert errors_of(first, off) == []


def test_the_same_addresses_in_another_domain_are_no_overlap() -> None:
    first, second = BROKEN["bar-overlap"]
    moved = Bytes().u32(0x10, 0xFE802000).function("0001:01:00.0", bar_sizes=second.bar_sizes)
    assert errors_of(first, moved) == []


def test_vf_bars_count_for_each_vf() -> None:
    card = parse_config(
        bytes(pf(vfs=4).data),
        source="config",
        bdf=Bdf.parse("01:00.0"),
        # VF BAR 0: 8 VFs of 0x4000
        resource="0x0 0x0 0x0\n" * 7 + "0x00000000fe800000 0x00000000fe81ffff 0x0000000000140204\n",
    )
    other = Bytes().u32(0x10, 0xFE80C000).function("02:00.0", bar_sizes={0: 0x1000})
    words = "BAR 0 (memory 0xfe80c000..0xfe80cfff) begins within VF BAR 0 of 4 VFs (memory 0xfe800000..0xfe80ffff)"
    assert errors_of(port().function("00:02.0"), card, other) == [f"{words} of 0000:01:00.0"]


def test_a_bridge_that_decodes_nothing_reaches_nothing() -> None:
    above = port().u16(0x04, 0x0004).function("00:02.0")
    child = Bytes().u32(0x10, 0xFE900000).function(bar_sizes={0: 0x1000})
    (message,) = errors_of(above, child)
    assert all(value in message for value in ("BAR 0", "0xfe900000..0xfe900fff", "0000:00:02.0", "memory decoding off"))


def notes_of(*functions: Function) -> dict[str, list[str]]:
    notes: dict[str, list[str]] = {}
    for each in lint_functions(functions).notes:
        notes.setdefault(each.rule, []).append(each.message)
    return notes


def test_masks_severities_and_latched_errors_are_facts() -> None:
    made = Bytes().express().aer().u32(AER_AT + 4, 0x9000).u32(AER_AT + 0x18, 15).u32(AER_AT + 0x20, 1)
    made.u32(AER_AT + 8, 0x04410000).u32(AER_AT + 0x0C, 0x10468020).u32(AER_AT + 0x10, 0x40)
    notes = notes_of(made.u32(AER_AT + 0x14, 0xE001).function())
    assert notes["aer-mask"] == ["uncorrectable errors masked: UnxCmplt", "correctable errors masked: RxErr"]
    assert "aer-mask-default" not in notes
    assert notes["aer-severity"] == ["fatal, by default non-fatal: CmpltAbrt", "non-fatal, by default fatal: DLP"]
    (uncorrectable, correctable) = notes["aer-status"]
    assert "TLP, CmpltAbrt; first: CmpltAbrt; TLP header 00000000 00000001 00000000 00000000" in uncorrectable
    assert "BadTLP" in correctable


@pytest.mark.parametrize(("mask", "correctable"), [(0x00400000, 0x2000), (0x04400000, 0xE000), (0, 0x8000)])
def test_default_masks_are_one_fact_in_the_same_words(mask: int, correctable: int) -> None:
    # PCIe Base 6.3, 7.8.4.3 and 7.8.4.6: UncorrIntErr, PoisonTLPBlocked, and the advisory, internal and header log ones
    made = Bytes().express().aer().u32(AER_AT + 8, mask).u32(AER_AT + 0x14, correctable)
    notes = notes_of(made.function(), Bytes().express().aer().function("01:00.1"))
    assert "aer-mask" not in notes
    assert len(set(notes["aer-mask-default"])) == 1


def test_what_a_root_port_keeps_to_itself_is_a_fact() -> None:
    made = port().aer().u32(AER_AT + 0x2C, 0x5).u32(AER_AT + 0x30, 0x25).u32(AER_AT + 0x34, 0x01000180)
    notes = notes_of(made.u16(0x3E, 0).function("00:02.0"))
    assert notes["aer-root-command"] == ["Root Error Command raises no interrupt for: non-fatal"]
    status = "correctable, uncorrectable, non-fatal; correctable from 0000:01:10.0, uncorrectable from 0000:01:00.0"
    assert notes["aer-root-status"] == [f"Root Error Status: {status}"]
    assert notes["error-forwarding"] == [
        "Bridge Control SERR# Enable is off: non-fatal and fatal errors from below are not forwarded"
    ]


@pytest.mark.parametrize(
    ("control", "command", "words"),
    [
        (0x000F, 0x0007, None),
        (0x0001, 0x0007, "non-fatal, fatal, unsupported request; SERR# Enable is off"),
        (0x0009, 0x0107, None),
        (0x0000, 0x0107, "correctable, non-fatal, fatal, unsupported request; SERR# Enable is on; non-fatal and fatal"),
    ],
)
def test_what_is_not_reported_is_a_fact(control: int, command: int, words: str | None) -> None:
    made = Bytes().express().aer().u16(EXPRESS_AT + 8, control).u16(0x04, command)
    found = notes_of(made.function()).get("error-reporting", [])
    assert [message.startswith(f"Device Control does not report: {words}") for message in found] == [True] * bool(words)


def test_a_slot_and_the_vfs_are_described() -> None:
    notes = {(each.function, each.rule): each.message for each in report_of(IGB).notes}
    assert notes["0000:00:04.0", "slot"] == "slot 3: occupied, hot-plug capable, surprise removal, attention button"
    vfs = "SR-IOV: 2 of 8 VFs, VF Enable on, VF MSE on: 0000:03:10.0 to 0000:03:10.2 (offset 0x80, stride 0x2)"
    assert notes["0000:03:00.0", "sriov-vfs"] == vfs


def test_what_64_bytes_do_not_show_is_listed() -> None:
    missing = report_of(NVME_X).not_checked
    needs = {each.rule: each.needs for each in missing if each.function == "0000:01:00.0"}
    assert needs["msix-overlap"] == "lspci -xxx, or -xxxx, as root"
    assert needs["sriov-vf-bar"] == "lspci -xxxx as root"
    assert "bar-type" not in needs
    # a host bridge without capabilities has nothing to show
    assert not [each for each in missing if each.function == "0000:00:00.0"]


def test_256_bytes_of_a_pci_function_are_all_there_is() -> None:
    report = lint_functions(one(Bytes(256).capability(0x40, 0x01)))
    assert report.not_checked == ()


def test_256_bytes_of_a_pcie_function_are_not() -> None:
    report = lint_functions(one(Bytes(256).express()))
    assert {"aer-mask", "sriov-numvfs", "extcap-loop"} <= {each.rule for each in report.not_checked}


def test_without_the_sizes_of_bars_msix_is_checked_as_far_as_it_goes() -> None:
    report = lint_functions(one(Bytes().msix(vectors=10, table=0, pba=0x800)))
    assert report.errors == ()
    assert [each.rule for each in report.not_checked] == ["msix-outside"]


SPACES = st.sampled_from(SIZES).flatmap(lambda size: st.binary(min_size=size, max_size=size))


@given(st.lists(st.tuples(SPACES, st.integers(0, 3), st.booleans()), min_size=1, max_size=4))
@example([(b"\x01" * 4096, 0, True), (b"\x11" * 4096, 1, True)])
@example([(bytes(pf(vfs=0xFFFF, offset=0xFFFF, stride=0xFFFF).data), 0, True)])
def test_no_bytes_make_a_rule_raise(spaces: list[tuple[bytes, int, bool]]) -> None:
    functions = [
        parse_config(data, source=f"{index}", bdf=Bdf(0, bus, index, 0) if known else None)
        for index, (data, bus, known) in enumerate(spaces)
    ]
    report = lint_functions(functions)
    assert report.functions == len(spaces)


@given(SPACES, st.sampled_from(["01:00.0", "0000:01:00.0 Class 0200: x", "10000:e1:1f.7 \t"]))
def test_bytes_survive_lspcis_text(data: bytes, header: str) -> None:
    (function,) = machine(f"\n{as_lspci(data, header)}")
    assert function.space.data == data
    assert function.bdf == Bdf.parse(header.split(maxsplit=1)[0])
    assert function.where(0x3C) == "dump.txt:6"


LINES = ["01:00.0 Class 0200", "00: " + "00 " * 16, "10: " + "ff " * 16, "20: 00", "\tRegion 0: Memory at 0 [size=4K]"]


@given(st.one_of(st.text(), st.lists(st.sampled_from(LINES)).map("\n".join)))
def test_no_text_raises_anything_but_an_input_error(text: str) -> None:
    with contextlib.suppress(InputError):
        assert parse_dump(text, source="dump.txt").machines


def good_lines(header: str = "01:00.0 Class 0200: Device 8086:10d3") -> list[str]:
    return as_lspci(bytes(64), header).splitlines()


@pytest.mark.parametrize(
    ("change", "line", "reason"),
    [
        ({2: "10: 0g" + " 00" * 15}, 3, "'0g' is not a two-digit"),
        ({2: "10:" + " 00" * 15}, 3, "the row has 15 bytes, wanted 16"),
        ({2: "10:" + " 00" * 17}, 3, "the row has 17 bytes, wanted 16"),
        ({2: ""}, 4, "offset 20, wanted 0x10"),
        ({4: ""}, 4, "has 48 bytes, wanted one of 64, 128, 256, 4096"),
        ({1: "", 2: "", 3: "", 4: ""}, 1, "no bytes"),
    ],
)
def test_a_damaged_function_is_skipped_by_its_line_and_the_rest_is_judged(
    change: dict[int, str], line: int, reason: str
) -> None:
    lines = good_lines()
    for index, text in change.items():
        lines[index] = text
    with pytest.raises(InputError) as caught:
        parse_dump("\n".join(lines), source="dump.txt")
    assert caught.value.message.startswith(f"dump.txt:{line}: 0000:01:00.0: ")
    assert reason in caught.value.message
    assert caught.value.hint
    dump = parse_dump("\n".join([*lines, "", *good_lines("02:00.0 x")]), source="dump.txt")
    assert [str(each.bdf) for each in dump.machines[0]] == ["0000:02:00.0"]
    (skipped,) = dump.skipped
    assert (skipped.function, skipped.where) == ("0000:01:00.0", f"dump.txt:{line}")
    assert reason in skipped.reason
    assert skipped.damaged is (reason != "no bytes")


def test_the_words_tell_the_sizes_of_bars() -> None:
    # lspci -v has no numbers: the addresses tell which BAR it is
    (nic,) = machine((DATA / "e1000e-7.2.vxxx.txt").read_text())
    assert nic.bar_sizes == {0: 128 << 10, 1: 128 << 10, 2: 32, 3: 16 << 10}
    port_, igb, vf, _ = machine(IGB.read_text())
    assert port_.bar_sizes == {0: 4096}
    assert igb.bar_sizes == {0: 128 << 10, 1: 128 << 10, 2: 32, 3: 16 << 10}
    assert vf.bar_sizes == igb.vf_bar_sizes == {0: 16 << 10, 3: 16 << 10}


def test_sysfs_tells_the_sizes_of_bars() -> None:
    nvme = parse_config(
        (DATA / "nvme-sriov-7.2.config").read_bytes(),
        source="config",
        bdf=Bdf.parse("01:00.0"),
        resource=(DATA / "nvme-sriov-7.2.resource").read_text(),
    )
    assert (nvme.bar_sizes, nvme.vf_bar_sizes) == ({0: 0x4000}, {0: 0x4000})
    assert nvme.where(0x44) == "config+0x44"


@pytest.mark.parametrize(
    ("capabilities", "status", "broken"),
    [
        (0x44, 0x85, True),
        (0x44 | 1 << 20, 0x2085, True),  # it reports whether it is active, and is
        (0x44 | 1 << 20, 0x0085, False),  # and is not: speed and width are undefined (PCIe Base 6.3, 7.5.3.8)
        (0x44, 0x0885, False),  # in training
    ],
)
def test_a_link_that_is_down_has_neither_speed_nor_width(capabilities: int, status: int, broken: bool) -> None:
    made = port().u32(EXPRESS_AT + 0x0C, capabilities).u16(EXPRESS_AT + 0x12, status)
    assert bool(errors_of(made.function("00:02.0"))) is broken


def test_what_is_not_there_has_no_maximum() -> None:
    made = Bytes().express().u32(EXPRESS_AT + 0x0C, 0).u16(EXPRESS_AT + 0x12, 0x11)
    assert errors_of(made.function()) == []


def test_conventional_pci_may_have_a_bar_below_1_mb() -> None:
    # PCI 2.1, 6.2.5.1: type 01b; reserved since
    assert errors_of(Bytes(256).u32(0x10, 0x000D0002).function()) == []
    assert len(errors_of(Bytes(256).express().u32(0x10, 0x000D0002).function())) == 1


def test_vfs_that_are_not_enabled_are_nowhere() -> None:
    for made in (pf(offset=0x100), pf(stride=0), pf(offset=0)):
        assert errors_of(*below(made.u16(SRIOV_AT + 8, 0).function())) == []


def test_a_port_with_an_empty_slot_has_no_link() -> None:
    made = port().u16(EXPRESS_AT + 2, 0x0142).u16(EXPRESS_AT + 0x12, 0x85)
    assert errors_of(made.function("00:02.0")) == []
    assert errors_of(made.u16(EXPRESS_AT + 0x1A, 0x40).function("00:02.0")) != []


@pytest.mark.parametrize("ones", [16, 48, 64, 80])
def test_a_header_that_was_not_answered_is_no_reserved_layout_and_no_vf(ones: int) -> None:
    made = Bytes(256).express()
    made.data[:ones] = b"\xff" * ones
    report = lint_functions([made.function("01:00.1"), Bytes(256).function()])
    assert report.errors == ()
    notes = [(each.rule, each.message) for each in report.notes if each.function == "0000:01:00.1"]
    assert [rule for rule, _ in notes] == ["unread"]
    assert f"00h to {ones - 1:02x}h" in notes[0][1]


def test_what_was_not_answered_behind_the_header_has_no_capabilities() -> None:
    made = Bytes(256).express()
    made.data[0x40:] = b"\xff" * 0xC0
    assert errors_of(made.function()) == []
    assert len(notes_of(made.function())["unread"]) == 1
    extended = Bytes().express().aer()
    extended.data[0x100:] = b"\xff" * 0xF00
    assert errors_of(extended.function()) == []
    assert len(notes_of(extended.function())["unread"]) == 1


def test_an_alias_is_no_extended_space() -> None:
    # Linux drivers/pci/probe.c, pci_ext_cfg_is_aliased()
    made = Bytes()
    made.data[0x100:] = bytes(made.data[:0x100]) * 15
    assert errors_of(made.function()) == []
    assert "extended-alias" in notes_of(made.function())


def test_a_host_bridge_may_have_extended_capabilities_without_express_and_an_endpoint_not() -> None:
    # Linux drivers/pci/probe.c, pci_cfg_space_size()
    loop = Bytes().aer().u32(AER_AT, 0x10010001)
    assert errors_of(loop.function()) == []
    assert len(errors_of(loop.u32(0x08, 0x06000000).function("00:00.0"))) == 1


def mends_of(*functions: Function) -> str:
    (error,) = lint_functions(functions).errors
    return "\n".join(error.mend)


def test_an_overlap_says_how_much_room_is_needed_and_how_the_device_is_assigned_all_the_same() -> None:
    # QEMU hw/pci/msix.c, msix_init(); hw/vfio/pci.c, vfio_pci_relocate_msix()
    made = Bytes().u32(0x10, 0xFE000004).u32(0x18, 0xFEB00000).msix(vectors=24, table=0x2000, pba=0x2100)
    mends = mends_of(made.function())
    for words in (
        "0x180 bytes of table",
        "0x8 of PBA",
        "0x2180",
        "0x3000",
        "0x4000",
        "table & pba overlap, or they don't fit in BARs, or don't align",
        "x-msix-relocation=bar3",
        "host=0000:01:00.0",
    ):
        assert words in mends


def test_without_a_free_bar_the_last_of_memory_grows() -> None:
    made = Bytes().msix(vectors=2, table=0, pba=0)
    for index in range(5):
        made.u32(0x10 + 4 * index, 0xFE000000 + index * 0x1000)
    assert "x-msix-relocation=bar4" in mends_of(made.u32(0x24, 0xC001).function())


def test_a_vfs_bars_are_its_pfs() -> None:
    vf = Bytes().u32(0, 0xFFFFFFFF).express().msix(vectors=3, table=0, pba=0x20).function("01:10.0")
    card = pf().u32(SRIOV_AT + 0x24, 0xFE80000C).u32(SRIOV_AT + 0x30, 0xFE90000C)
    (error,) = lint_functions(below(card.function(), vf)).errors
    assert "x-msix-relocation=bar2" in "\n".join(error.mend)


def test_several_reports_are_one() -> None:
    both = joined([lint_functions(BROKEN["msix-overlap"]), lint_functions(BROKEN["cap-loop"])])
    assert (both.functions, [each.rule for each in both.errors]) == (2, ["msix-overlap", "cap-loop"])


def lint(
    arguments: Sequence[str], *, stdin: bytes = b"", folder: Path | None = None
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "testbed", "pci", "lint", *arguments]
    done = subprocess.run(command, cwd=folder, input=stdin, capture_output=True, check=False)
    return subprocess.CompletedProcess(command, done.returncode, done.stdout.decode(), done.stderr.decode())


def test_an_error_is_printed_as_a_compiler_does(tmp_path: Path) -> None:
    made = Bytes().msix(vectors=10, table=0x3, pba=0x83)
    (tmp_path / "dump.txt").write_text(as_lspci(bytes(made.data)))
    result = lint(["dump.txt"], folder=tmp_path)
    assert result.returncode == 1, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0].startswith("dump.txt:10: 0000:01:00.0: error[msix-overlap]: ")
    assert [line.split(":")[0].strip() for line in lines[1:5]] == ["required", "fix", "fix", "source"]
    assert result.stdout.splitlines()[-1].startswith("1 function, 1 error, 0 notes; 1 rule of ")


def test_a_clean_dump_exits_0_and_notes_can_be_left_out() -> None:
    with_notes, without = lint([str(IGB)]), lint(["--no-notes", str(IGB)])
    assert (with_notes.returncode, without.returncode) == (0, 0)
    assert f"{IGB}:" in with_notes.stdout
    assert without.stdout.splitlines()[0].startswith("4 functions, 0 errors, ")


def test_stdin_is_a_file() -> None:
    result = lint(["-"], stdin=NVME_X.read_bytes())
    assert result.returncode == 0
    assert "not checked: cap-loop, " in result.stdout


def test_sysfs_folders_give_address_and_sizes(tmp_path: Path) -> None:
    folder = tmp_path / "0000:01:00.0"
    folder.mkdir()
    (folder / "config").write_bytes((DATA / "nvme-sriov-7.2.config").read_bytes())
    (folder / "resource").write_text((DATA / "nvme-sriov-7.2.resource").read_text())
    result = lint(["--json", str(folder / "config")])
    report = json.loads(result.stdout)
    assert (result.returncode, report["schema"], report["functions"], report["errors"]) == (0, 1, 1, [])
    assert {each["function"] for each in report["notes"]} == {"0000:01:00.0"}
    # the port above is another function
    assert {each["rule"] for each in report["not_checked"]} == {"sriov-ari"}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "the file is empty"),
        (
            b"\0" * 100,
            "neither lspci text nor a binary config, which has one of 64, 128, 256, 4096 bytes: it has 100",
        ),
        (b"{}\n", "dump.txt: no device in it"),
        (b"cap pos w name\n     00 W VENDOR_ID\n", "dump.txt: setpci --dumpregs prints register names"),
        (b"01:00.0 x\n00: 0g 00 00\n", "dump.txt:2: 0000:01:00.0: '0g' is not a two-digit"),
        (b"01:00.0 \xff\n00: 00\n", "dump.txt:2: 0000:01:00.0: the row has 1 bytes"),
    ],
)
def test_what_is_no_dump_exits_2(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "dump.txt").write_bytes(content)
    result = lint(["dump.txt"], folder=tmp_path)
    assert result.returncode == 2
    assert words in result.stderr
    assert "Traceback" not in result.stderr


def test_a_missing_file_and_a_function_given_twice_exit_2(tmp_path: Path) -> None:
    for host in ("a", "b"):
        (tmp_path / host / "0000:01:00.0").mkdir(parents=True)
        (tmp_path / host / "0000:01:00.0" / "config").write_bytes(bytes(256))
    missing = lint(["nowhere.txt"], folder=tmp_path)
    twice = lint(["a/0000:01:00.0/config", "b/0000:01:00.0/config"], folder=tmp_path)
    assert (missing.returncode, twice.returncode) == (2, 2)
    assert "nowhere.txt: No such file" in missing.stderr
    assert "0000:01:00.0 is given twice" in twice.stderr
