"""Recoveries read from kernel logs: the wordings of several releases, vetoes, and whatever else a log may hold."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from testbed.model.aer import ErrorSeverity
from testbed.model.aer_log import parse_announcement, parse_header, parse_status
from testbed.model.kernel_log import LogRecord
from testbed.model.pci import Bdf
from testbed.model.recovery import ENDS, RecoveryReader, RecoveryState, read_recoveries

ROOT, NIC = Bdf.parse("0000:00:1c.0"), Bdf.parse("0000:04:00.0")
S = RecoveryState


def log(*lines: str) -> list[LogRecord]:
    return [
        LogRecord(line=n, sequence=n, seconds=10 + n / 10, level=6, text=text) for n, text in enumerate(lines, start=1)
    ]


def test_a_fatal_error_of_linux_6_1_with_its_steps() -> None:
    found = read_recoveries(
        log(
            "pcieport 0000:00:1c.0: AER: Uncorrected (Fatal) error message received from 0000:04:00.0",
            "ixgbe 0000:04:00.0: AER: PCIe Bus Error: severity=Uncorrected (Fatal), "
            "type=Inaccessible, (Unregistered Agent ID)",
            "pcieport 0000:00:1c.0: AER: broadcast error_detected message",
            "ixgbe 0000:04:00.0: Adapter removed",
            "pcieport 0000:00:1c.0: AER: Root Port link has been reset (0)",
            "pcieport 0000:00:1c.0: AER: broadcast slot_reset message",
            "pcieport 0000:00:1c.0: AER: broadcast resume message",
            "pcieport 0000:00:1c.0: AER: device recovery successful",
        )
    )
    (recovery,) = found.recoveries
    assert (recovery.port, recovery.source, recovery.severity) == (ROOT, NIC, ErrorSeverity.FATAL)
    assert recovery.states == (S.DETECTED, S.LINK_RESET, S.SLOT_RESET, S.RESUME, S.SUCCESSFUL)
    assert recovery.ended
    assert not recovery.link_reset_failed
    assert round(recovery.seconds, 3) == 0.7
    assert str(recovery) == "detected → link reset → slot_reset → resume → successful"
    assert found.unplaced == ()


def test_an_old_kernels_words_without_message_and_from() -> None:
    (recovery,) = read_recoveries(
        log(
            "pcieport 0000:00:1c.0: AER: Uncorrected (Non-Fatal) error received: 0000:04:00.0",
            "pcieport 0000:00:1c.0: broadcast error_detected message",
            "pcieport 0000:00:1c.0: broadcast mmio_enabled message",
            "pcieport 0000:00:1c.0: broadcast resume message",
            "pcieport 0000:00:1c.0: AER: Device recovery successful",
        )
    ).recoveries
    assert recovery.states == (S.DETECTED, S.MMIO_ENABLED, S.RESUME, S.SUCCESSFUL)


def test_the_newer_words_and_the_reset_of_a_non_fatal_error() -> None:
    (recovery,) = read_recoveries(
        log(
            "pcieport 0000:00:1c.0: AER: Multiple Uncorrectable (Non-Fatal) error message received from 0000:04:00.0 "
            "(no details found)",
            "pcieport 0000:00:1c.0: AER: Root Port link has been reset (0)",
            "pcieport 0000:00:1c.0: AER: device recovery successful",
        )
    ).recoveries
    assert recovery.states == (S.DETECTED, S.LINK_RESET, S.SUCCESSFUL)
    assert recovery.severity is ErrorSeverity.NON_FATAL


def test_who_vetoed_and_a_link_that_stays_down() -> None:
    (recovery,) = read_recoveries(
        log(
            "pcieport 0000:00:1c.0: AER: Uncorrectable (Fatal) error message received from 0000:04:00.0",
            "pci 0000:04:10.1: AER: can't recover (no error_detected callback)",
            "pcieport 0000:00:1c.0: Data Link Layer Link Active not set in 100 msec",
            "pcieport 0000:00:1c.0: AER: Root Port link has been reset (-25)",
            "pcieport 0000:00:1c.0: AER: subordinate device reset failed",
            "pcieport 0000:00:1c.0: AER: device recovery failed",
        )
    ).recoveries
    assert recovery.state is S.FAILED
    assert recovery.link_reset_failed
    assert [(str(veto.device), veto.reason) for veto in recovery.vetoes] == [
        ("0000:04:10.1", "can't recover (no error_detected callback)"),
        ("0000:00:1c.0", "subordinate device reset failed"),
    ]


def test_two_root_ports_recover_at_once_and_a_correctable_error_begins_nothing() -> None:
    found = read_recoveries(
        log(
            "pcieport 0000:00:1c.0: AER: Uncorrected (Non-Fatal) error message received from 0000:04:00.0",
            "pcieport 0000:00:1d.0: AER: Uncorrected (Fatal) error message received from 0000:05:00.0",
            "pcieport 0000:00:1e.0: AER: Corrected error message received from 0000:06:00.0",
            "pcieport 0000:00:1d.0: AER: Root Port link has been reset (0)",
            "pcieport 0000:00:1c.0: AER: device recovery failed",
            "pcieport 0000:00:1d.0: AER: device recovery successful",
        )
    )
    assert [str(each) for each in found.recoveries] == ["detected → failed", "detected → link reset → successful"]


def test_below_a_switch_another_port_tells_of_the_recovery() -> None:
    (recovery,) = read_recoveries(
        log(
            "pcieport 0000:00:1c.0: AER: Uncorrected (Fatal) error message received from 0000:07:00.0",
            "pcieport 0000:06:01.0: AER: Downstream Port link has been reset (0)",
            "pcieport 0000:06:01.0: AER: device recovery successful",
        )
    ).recoveries
    assert recovery.state is S.SUCCESSFUL
    assert str(recovery.bridge) == "0000:06:01.0"


def test_the_words_of_7_3() -> None:
    """From a log of Debian's 7.3.4."""
    (recovery,) = read_recoveries(
        log(
            "pcieport 0000:00:02.0: AER: Uncorrectable (Non-Fatal) Error message received from 0000:01:00.0",
            "e1000e 0000:01:00.0: PCIe Bus Error: severity=Uncorrectable (Non-Fatal)",
            "e1000e 0000:01:00.0:   device [8086:10d3] error status/mask=00008000/02400000",
            "e1000e 0000:01:00.0:   [15] CmpltAbrt         | Completer   | Transaction Layer",
            "pcieport 0000:00:02.0: AER: broadcast error_detected message",
            "pcieport 0000:00:02.0: AER: Root Port link has been reset (0)",
            "pcieport 0000:00:02.0: AER: broadcast slot_reset message",
            "pcieport 0000:00:02.0: AER: broadcast resume message",
            "pcieport 0000:00:02.0: AER: device recovery successful",
        )
    ).recoveries
    assert str(recovery) == "detected → link reset → slot_reset → resume → successful"


def test_a_log_that_begins_in_the_middle_places_nothing() -> None:
    found = read_recoveries(
        log(
            "pcieport 0000:00:1c.0: AER: broadcast resume message",
            "pcieport 0000:00:1c.0: AER: device recovery successful",
        )
    )
    assert found.recoveries == ()
    assert len(found.unplaced) == 2


def test_the_lines_with_the_registers() -> None:
    status = parse_status("igb 0000:04:00.0:   device [8086:10c9] error status/mask=00008000/02400000")
    assert status is not None
    assert (status.status, status.mask) == (0x8000, 0x02400000)
    for text in (
        "igb 0000:04:00.0: AER:   TLP Header: 00000000 00000001 00000002 00000003",
        "igb 0000:04:00.0:   TLP Header: 0x00000000 0x00000001 0x00000002 0x00000003",
    ):
        header = parse_header(text)
        assert header is not None
        assert header.words == (0, 1, 2, 3)


_BDFS = st.builds(Bdf, st.just(0), st.integers(0, 3), st.integers(0, 1), st.integers(0, 1))
_WORDS = st.sampled_from(
    (
        "AER: Uncorrected (Fatal) error message received from 0000:01:00.0",
        "AER: Uncorrectable (Non-Fatal) error message received from 0000:02:00.0",
        "AER: Correctable error message received from 0000:02:00.0",
        "AER: broadcast error_detected message",
        "AER: broadcast mmio_enabled message",
        "AER: broadcast slot_reset message",
        "AER: broadcast resume message",
        "AER: Root Port link has been reset (-25)",
        "AER: can't recover (no error_detected callback)",
        "AER: device recovery successful",
        "AER: device recovery failed",
        "Slot(1): Link Up",
    )
)


@given(st.lists(st.tuples(_BDFS, _WORDS), max_size=60))
def test_any_order_of_messages_gives_only_paths_that_the_state_machine_allows(lines: list[tuple[Bdf, str]]) -> None:
    records = log(*(f"pcieport {bdf}: {words}" for bdf, words in lines))
    found = read_recoveries(records)
    announced = [record for record in records if (a := parse_announcement(record.text)) and a.severity != "correctable"]
    assert len(found.recoveries) == len(announced)
    for recovery in found.recoveries:
        assert recovery.states[0] is S.DETECTED
        assert not set(recovery.states[:-1]) & ENDS
        assert len(set(recovery.states)) == len(recovery.states)
        assert [step.record.line for step in recovery.path] == sorted(step.record.line for step in recovery.path)
    # no message belongs to two recoveries
    lines_used = [step.record.line for recovery in found.recoveries for step in recovery.path]
    assert len(lines_used) == len(set(lines_used))


@given(st.lists(st.text(max_size=200), max_size=30))
def test_any_text_is_read_without_a_word(lines: list[str]) -> None:
    reader = RecoveryReader()
    for record in log(*lines):
        reader.read(record)
    assert reader.log.recoveries == ()
