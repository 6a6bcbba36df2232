"""Kernel log records, and the words by which kernels from 3.10 to 7.1 say that they are dying."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from testbed.model.kernel_log import Crash, find_crash, parse_record


def test_a_record_is_read_whole() -> None:
    record = parse_record("6,339,5140900,-;pcieport 0000:00:02.0: AER: enabled; with IRQ 24", line=7)
    assert record is not None
    assert (record.level, record.sequence, record.seconds) == (6, 339, 5.1409)
    assert record.text == "pcieport 0000:00:02.0: AER: enabled; with IRQ 24"
    assert record.reference == "kernel.log:7"


def test_a_record_prints_level_and_stamp() -> None:
    assert str(parse_record("4,1,1500000,-;words", line=1)) == "<4>[    1.500000] words"


def test_the_facility_is_not_part_of_the_level() -> None:
    record = parse_record("30,1,0,-;systemd[1]: Started", line=1)  # facility 3, level 6
    assert record is not None
    assert record.level == 6


def test_continued_and_newer_flags_are_taken() -> None:
    # Linux 5.10 and later may add the caller: "6,1,0,-,caller=T1;…"
    record = parse_record("6,1,0,c,caller=T1;words", line=1)
    assert record is not None
    assert record.text == "words"


def test_escaped_bytes_become_characters() -> None:
    record = parse_record(r"6,1,0,-;tab\x09 and \x5c", line=1)
    assert record is not None
    assert record.text == "tab\t and \\"


@pytest.mark.parametrize("text", ["", " SUBSYSTEM=pci", " DEVICE=+pci:0000:00:02.0", "6,1;x", "-6,1,0,-;x", "words"])
def test_dictionary_lines_and_noise_are_no_records(text: str) -> None:
    assert parse_record(text, line=1) is None


CRASHES = [
    (Crash.PANIC, "Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100"),
    (Crash.PANIC, "---[ end Kernel panic - not syncing: sysrq triggered crash ]---"),
    (Crash.OOPS, "BUG: unable to handle kernel NULL pointer dereference at 0000000000000008"),  # to 5.0
    (Crash.OOPS, "BUG: unable to handle kernel paging request at ffffffffa0000000"),  # to 5.0
    (Crash.OOPS, "BUG: kernel NULL pointer dereference, address: 0000000000000008"),  # from 5.1
    (Crash.OOPS, "BUG: unable to handle page fault for address: ffffc90000401000"),  # from 5.1
    (Crash.OOPS, "Oops: 0002 [#1] SMP"),  # 3.10
    (Crash.OOPS, "Oops: 0000 [#1] PREEMPT SMP NOPTI"),
    (Crash.OOPS, "Oops: Oops: 0002 [#1] SMP NOPTI"),  # from 6.10
    (Crash.OOPS, "general protection fault: 0000 [#1] SMP"),  # to 5.4
    (Crash.OOPS, "general protection fault, probably for non-canonical address 0xdead000000000100: 0000 [#1] SMP"),
    (Crash.OOPS, "Oops: general protection fault, probably for non-canonical address 0xdead000000000100: 0000 [#1]"),
    (Crash.OOPS, "divide error: 0000 [#1] PREEMPT SMP NOPTI"),
    (Crash.OOPS, "Oops: divide error: 0000 [#1] SMP NOPTI"),
    (Crash.OOPS, "invalid opcode: 0000 [#1] SMP"),
    (Crash.OOPS, "kernel BUG at drivers/pci/hotplug/pciehp_ctrl.c:123!"),
    (Crash.LOCKUP, "BUG: soft lockup - CPU#0 stuck for 22s! [irq/24-pciehp:49]"),  # to 4.15
    (Crash.LOCKUP, "watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [sh:120]"),
    (Crash.LOCKUP, "NMI watchdog: BUG: soft lockup - CPU#1 stuck for 22s! [sh:1]"),
    (Crash.LOCKUP, "Watchdog detected hard LOCKUP on cpu 0"),
    (Crash.LOCKUP, "NMI watchdog: Watchdog detected hard LOCKUP on cpu 2"),
    (Crash.LOCKUP, "watchdog: CPU3: Watchdog detected hard LOCKUP on cpu 3"),  # from 6.5
    (Crash.RCU_STALL, "INFO: rcu_sched self-detected stall on CPU { 0}  (t=60000 jiffies g=1 c=0 q=2)"),  # 3.10
    (Crash.RCU_STALL, "INFO: rcu_sched detected stalls on CPUs/tasks: { 1} (detected by 0, t=60002 jiffies)"),
    (Crash.RCU_STALL, "rcu: INFO: rcu_preempt self-detected stall on CPU"),
    (Crash.RCU_STALL, "rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:"),
    (Crash.RCU_STALL, "rcu: INFO: rcu_preempt detected expedited stalls on CPUs/tasks: { 1-... } 6 jiffies"),
    (Crash.HUNG_TASK, "INFO: task kworker/0:1:21 blocked for more than 120 seconds."),
    (Crash.HUNG_TASK, "INFO: task irq/24-pciehp:49 blocked for more than 241 seconds."),
]


@pytest.mark.parametrize(("crash", "text"), CRASHES)
def test_each_wording_of_a_crash_is_known(crash: Crash, text: str) -> None:
    found = find_crash(f"[   12.345678] {text}")
    assert found is not None
    assert found[0] is crash
    assert found[1]
    assert found[1] in text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Kernel command line: console=ttyS0 panic=1 oops=panic softlockup_panic=1",
        "traps: app[123] general protection fault ip:401000 sp:7ffd error:0 in app[400000+1000]",
        "traps: app[123] trap divide error ip:401000 sp:7ffd error:0",
        "app[123]: segfault at 0 ip 0000000000401000 sp 00007ffd error 4",
        "NMI watchdog: Enabled. Permanently consumes one hw-PMU counter.",
        "rcu: INFO: lockdep is on",
        "pcieport 0000:00:02.0: AER: Multiple Uncorrected (Fatal) error received",
        "x86/mm: Checked W+X mappings: passed, no W+X pages found.",
        "pci 0000:00:02.0: [1b36:000c] type 01 class 0x060400",
    ],
)
def test_what_a_healthy_kernel_says_is_no_crash(text: str) -> None:
    assert find_crash(text) is None


@given(st.text())
@example("6,1," + "9" * 400 + ",-;too big for a float")
@example("6,1," + "9" * 5000 + ",-;too big for int()")
@example("६,१,१,-;Devanagari digits")
def test_no_text_makes_the_parser_raise(text: str) -> None:
    record = parse_record(text, line=1)
    assert record is None or record.line == 1


@given(st.text(), st.sampled_from(CRASHES), st.text(st.characters(exclude_characters="\n")))
def test_a_crash_is_found_in_any_surroundings(before: str, known: tuple[Crash, str], after: str) -> None:
    # another crash in the noise may be the one that is reported: what counts is that none is missed
    assert find_crash(f"{before} {known[1]} {after}") is not None


@given(st.integers(0, 191), st.integers(0, 2**64 - 1), st.integers(0, 2**63 // 1000), st.text())
def test_every_record_the_kernel_can_write_is_read(priority: int, sequence: int, micros: int, text: str) -> None:
    escaped = "".join(f"\\x{byte:02x}" if not 32 <= byte < 127 or byte == 92 else chr(byte) for byte in text.encode())
    record = parse_record(f"{priority},{sequence},{micros},-;{escaped}", line=3)
    assert record is not None
    assert (record.level, record.sequence, record.seconds) == (priority % 8, sequence, micros / 1e6)
    assert record.text == text
