"""Naming an error, and what the two injectors are told."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.actions.injectors import pack_order
from testbed.guest.aer_counters import Count, ErrorCounters, counter_findings, parse_counter
from testbed.model.aer import CORRECTABLE, UNCORRECTABLE, AerError, ErrorRecord, ErrorSeverity
from testbed.model.aer_name import ERRORS, NAMES, find_error, find_record, record_words
from testbed.model.errors import InputError
from testbed.model.pci import Bdf
from testbed.verbs.words import parse_header

COR = ErrorSeverity.CORRECTABLE


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.kernel)
def test_every_error_is_found_by_each_of_its_names_and_its_bit(error: AerError) -> None:
    severity = COR if error.severity is COR else None
    for name in (error.kernel, error.kernel.upper(), error.qemu or error.kernel, f"{error.mask:#x}"):
        assert find_error(name, severity) is error


def test_no_two_errors_share_a_name() -> None:
    spelled = [name for error in ERRORS for name in {error.kernel, error.qemu} - {None}]
    assert len(spelled) == len(NAMES)
    assert len({name.lower() for name in NAMES}) == len(NAMES)


@pytest.mark.parametrize(
    ("name", "severity", "words"),
    [
        ("COMP_ABRT", None, "did you mean COMP_ABORT, the kernel's CmpltAbrt"),
        ("RCVR", ErrorSeverity.FATAL, "uncorrectable ones are: DLP"),
        ("COMP_ABORT", COR, "correctable ones are: RCVR"),
        ("0x1", None, "name it RCVR"),
        ("0x8000", COR, ""),
        ("0x4000", ErrorSeverity.CORRECTABLE, ""),
        ("0x20", COR, "without --severity correctable"),
        ("0x3", None, "bits of errors: 0x10 DLP"),
        ("0x2", None, "bits of errors"),
        ("", None, "uncorrectable: DLP"),
    ],
)
def test_a_wrong_error_is_told_with_what_would_be_right(name: str, severity: ErrorSeverity | None, words: str) -> None:
    if not words:
        assert find_error(name, severity) in CORRECTABLE
        return
    with pytest.raises(InputError) as raised:
        find_error(name, severity)
    assert words in (raised.value.hint or "")


@given(st.sampled_from(ERRORS), st.tuples(*[st.integers(0, 0xFFFFFFFF)] * 4))
def test_the_kernels_injector_gets_one_structure_of_32_bytes(
    error: AerError, header: tuple[int, int, int, int]
) -> None:
    order = pack_order(Bdf(0x10, 0x3A, 0x1F, 7), ErrorRecord(errors=(error,)), header)
    assert len(order) == 32
    bus, device, function, _, uncorrectable, correctable, *rest = struct.unpack("<4B7I", order)
    assert (bus, device, function, rest) == (0x3A, 0x1F, 7, [*header, 0x10])
    assert (uncorrectable, correctable) == ((0, error.mask) if error in CORRECTABLE else (error.mask, 0))


def test_a_record_holds_several_errors_of_both_kinds() -> None:
    record = find_record("RCVR+BAD_TLP+CmpltAbrt")
    assert (record.correctable, record.uncorrectable) == (0x41, 0x8000)
    assert record.worst.kernel == "CmpltAbrt"
    assert find_record("COMP_TIME+MALF_TLP+RCVR").worst.kernel == "MalfTLP"
    assert (
        record_words(record)
        == "RCVR, the kernel's RxErr + BAD_TLP, the kernel's BadTLP + COMP_ABORT, the kernel's CmpltAbrt"
    )
    assert struct.unpack("<4B7I", pack_order(Bdf(0, 1, 0, 0), record))[4:6] == (0x8000, 0x41)
    with pytest.raises(InputError, match="is given twice"):
        find_record("RCVR+0x1", COR)
    with pytest.raises(InputError, match="exist"):
        find_record("RCVR+")


def test_the_kernels_counters_are_read_and_compared() -> None:
    assert parse_counter("aer_rootport_total_err_cor", "3") == {"aer_rootport_total_err_cor": 3}
    text = "RxErr 1\nBadTLP 0\nTOTAL_ERR_COR 1"
    assert parse_counter("aer_dev_correctable", text)["aer_dev_correctable RxErr"] == 1
    assert parse_counter("aer_stats", "no number here") == {}
    bdf = Bdf(0, 0, 2, 0)
    rx, bad, total = (
        Count(bdf=bdf, name=f"aer_dev_correctable {name}") for name in ("RxErr", "BadTLP", "TOTAL_ERR_COR")
    )
    before = ErrorCounters(counts={rx: 4, bad: 0, total: 4}, evidence="shell.jsonl:1")
    after = ErrorCounters(counts={rx: 5, bad: 0, total: 5}, evidence="shell.jsonl:2")
    found = counter_findings(before, after, {rx: 1, bad: 1})
    assert [(each.subject, each.expected, each.observed) for each in found] == [
        (f"counter aer_dev_correctable RxErr of {bdf}", "+1", "+1, to 5"),
        (f"counter aer_dev_correctable BadTLP of {bdf}", "+1", "+0, to 0"),
    ]


def test_a_header_has_up_to_four_words_of_32_bits() -> None:
    assert parse_header([]) is None
    assert parse_header(["0x40000001", "7"]) == (0x40000001, 7, 0, 0)
    for words in (["0"] * 5, ["x"], ["-1"], ["0x100000000"]):
        with pytest.raises(InputError, match="four words"):
            parse_header(words)


def test_the_errors_qemu_has_no_name_for_are_the_latest_uncorrectable_ones() -> None:
    nameless = [error for error in ERRORS if error.qemu is None]
    assert nameless == [error for error in UNCORRECTABLE if error.bit >= 26]
