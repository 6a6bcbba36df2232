"""Whole traces: which exit loops are found, which healthy traces are left in peace, and what is said of each."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.kvmtrace.cause import (
    ERRATUM_1096,
    FETCH,
    INTEL,
    INVALIDATION_COUNTER,
    NOT_EMULATED,
    NOT_USER,
    PRIVATE,
    SNP,
    UNMAPPED_AGAIN,
    find_cause,
)
from testbed.kvmtrace.explanation import explain
from testbed.kvmtrace.run import Ending
from testbed.model.errors import InputError
from testbed.model.mmio_record import Direction, Mode, Space
from tests.unit.kvm_traces import GPA, KERNEL_RIP, RIP, Trace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from testbed.kvmtrace.explanation import Explanation
    from testbed.kvmtrace.loop import Loop


def explained(trace: Trace, *, at_least: int = 10) -> Explanation:
    return explain(trace.lines, name="trace.txt", at_least=at_least)


def the_loop(trace: Trace) -> Loop:
    loops = explained(trace).loops
    assert len(loops) == 1
    return loops[0]


def test_the_reports_loop_is_found_with_all_that_the_trace_says() -> None:
    trace = Trace()
    trace.lines.append("cpus=8\n")
    vcpu = trace.thread(0)
    for turn in range(1000):
        vcpu.stuck()
        if turn % 12 == 11:
            vcpu.timer()
    loop = the_loop(trace)
    assert (loop.vcpu, loop.tid, loop.thread, loop.process) == (0, 4711, "CPU 0/KVM", None)
    assert (loop.rip, loop.gpa, loop.reason, loop.info) == (RIP, GPA, "npf", 0x10000000F)
    assert (loop.direction, loop.mode, loop.mmio, loop.fetch) == (Direction.WRITE, Mode.USER, True, False)
    assert (loop.exits, loop.failures, loop.first_line) == (1000, 0, 2)
    assert loop.last_line == max(number for number, line in enumerate(trace.lines, 1) if "npf" in line)
    assert loop.seconds == pytest.approx(0.302, abs=0.001)
    assert loop.rate == pytest.approx(3300, rel=0.01)
    assert loop.ending is Ending.REPEATING
    assert find_cause(loop) is ERRATUM_1096


def test_a_read_stalls_as_a_write_does() -> None:
    trace = Trace(flags="d..2. ")
    vcpu = trace.thread(0)
    for _ in range(20):
        vcpu.stuck(error=0x10000000D)
    loop = the_loop(trace)
    assert loop.direction is Direction.READ
    assert find_cause(loop) is ERRATUM_1096


def test_the_newer_layout_names_vcpu_and_rip_in_every_event() -> None:
    trace = Trace(flags="d..2. ")
    vcpu = trace.thread(3)
    for _ in range(20):
        info = f"info1 {0x10000000F:#018x} info2 {GPA:#018x} intr_info 0x00000000 error_code 0x00000000"
        vcpu.write("kvm_exit", f"vcpu 3 reason npf rip {RIP:#x} {info}")
        vcpu.write("kvm_page_fault", f"vcpu 3 rip {RIP:#x} address {GPA:#018x} error_code 0x10000000f")
        vcpu.write("kvm_entry", f"vcpu 3, rip {RIP:#x}")
    explanation = explained(trace)
    assert [(loop.vcpu, loop.rip, loop.gpa, loop.exits) for loop in explanation.loops] == [(3, RIP, GPA, 20)]
    assert explanation.witnesses == ("kvm_entry's rip",)


def test_an_entry_elsewhere_is_progress_although_nothing_else_was_recorded() -> None:
    # virtio's notifications on Intel complete without kvm_mmio or kvm_emulate_insn
    trace = Trace()
    vcpu = trace.thread(0)
    for _ in range(100):
        vcpu.write("kvm_exit", f"vcpu 0 reason EPT_MISCONFIG rip {KERNEL_RIP:#x} info 0 0")
        vcpu.write("kvm_entry", f"vcpu 0, rip {KERNEL_RIP + 3:#x}")
    assert explained(trace).loops == ()


def test_a_polling_guest_on_a_healthy_intel_host_has_no_loop() -> None:
    trace = Trace(flags="d..1. ")
    vcpu = trace.thread(0)
    for value in range(200):
        vcpu.intel_read(0xFED000F0, value)
        vcpu.intel_write(GPA, 1)
    explanation = explained(trace)
    assert explanation.loops == ()
    assert explanation.host == "Intel"
    read, write = sorted(explanation.registers, key=lambda row: row.writes)
    assert (read.address, read.reads, read.writes, read.widths) == (0xFED000F0, 200, 0, {4})
    assert (read.in_user_space, read.last_value, read.rips, read.modes) == (200, 199, {KERNEL_RIP}, {Mode.KERNEL})
    assert read.mean_seconds == pytest.approx(15e-6)
    assert (write.address, write.reads, write.writes, write.in_user_space) == (GPA, 0, 200, 200)
    assert write.mean_seconds == pytest.approx(13e-6)


def test_only_the_stuck_one_of_two_vcpus_is_named() -> None:
    trace = Trace()
    stuck, healthy = trace.thread(0), trace.thread(1)
    for _ in range(50):
        stuck.stuck()
        healthy.write("kvm_exit", f"reason npf rip {KERNEL_RIP:#x} info 10000000f {GPA:x}")
        healthy.write("kvm_emulate_insn", f"0:{KERNEL_RIP:x}:40 88 70 14 (prot64)")
        healthy.write("kvm_mmio", f"mmio write len 1 gpa {GPA:#x} val 0x1")
        healthy.write("kvm_entry", "vcpu 1")
    explanation = explained(trace)
    assert [(loop.vcpu, loop.exits) for loop in explanation.loops] == [(0, 50)]
    completed = explanation.completed(explanation.loops[0])
    assert completed is not None
    assert (completed.count, completed.modes) == (50, {Mode.KERNEL})


def test_a_loop_that_ends_is_a_loop_that_ended() -> None:
    trace = Trace()
    vcpu = trace.thread(0)
    for _ in range(30):
        vcpu.stuck()
    vcpu.write("kvm_exit", f"reason npf rip {RIP:#x} info 10000000f {GPA:x}")
    vcpu.write("kvm_emulate_insn", f"0:{RIP:x}:40 88 70 14 (prot64)")
    vcpu.write("kvm_mmio", f"mmio write len 1 gpa {GPA:#x} val 0x1")
    vcpu.write("kvm_entry", "vcpu 0")
    vcpu.timer()
    loop = the_loop(trace)
    assert (loop.exits, loop.ending) == (30, Ending.PROGRESSED)


def test_a_loop_that_was_killed_is_not_seen_again() -> None:
    trace = Trace()
    vcpu = trace.thread(0)
    for _ in range(30):
        vcpu.stuck()
    trace.micros += 5_000_000
    vcpu.timer()
    assert the_loop(trace).ending is Ending.LEFT


def test_ten_exits_make_a_loop_and_nine_do_not() -> None:
    for count, found in ((9, 0), (10, 1)):
        trace = Trace()
        for _ in range(count):
            trace.thread(0).stuck()
        trace.thread(0).timer()
        assert len(explained(trace).loops) == found


def test_fewer_in_a_row_at_the_end_are_called_too_few() -> None:
    trace = Trace()
    for _ in range(5):
        trace.thread(0).stuck()
    explanation = explained(trace)
    assert explanation.loops == ()
    (suspicion,) = explanation.suspicions
    assert (suspicion.exits, suspicion.rip, suspicion.is_short) == (5, RIP, True)
    assert find_cause(suspicion) is ERRATUM_1096
    assert not explanation.is_healthy


@pytest.mark.parametrize(
    ("exits", "gpa", "error", "suspicious"),
    [
        (1, GPA, 0x10000000F, False),
        (2, GPA, 0x10000000F, True),  # two of the same on MMIO, and nothing else
        (2, 0x10FFE000, 0x100000006, False),  # memory may fault twice: a read, then a write
        (4, 0x10FFE000, 0x100000006, True),
    ],
)
def test_chance_is_no_suspicion(exits: int, gpa: int, error: int, suspicious: bool) -> None:
    trace = Trace()
    for _ in range(exits):
        trace.thread(0).stuck(gpa=gpa, error=error)
    assert bool(explained(trace).suspicions) is suspicious


def test_what_the_guest_got_past_is_no_suspicion() -> None:
    for mmio in (True, False):
        trace = Trace()
        vcpu = trace.thread(0)
        for _ in range(5):
            vcpu.stuck(gpa=GPA if mmio else 0x10FFE000, error=0x10000000F if mmio else 0x100000006)
        for _ in range(9):
            vcpu.timer()
        assert explained(trace).suspicions == ()
        assert explained(trace).is_healthy


def test_a_page_of_memory_may_fault_again_later_at_the_same_place() -> None:
    # as under dirty logging: each fault is served, and the guest goes on to others before it comes back
    trace = Trace()
    vcpu = trace.thread(0)
    for _ in range(100):
        vcpu.stuck(rip=KERNEL_RIP, gpa=0x10FFE000, error=0x100000007)
        vcpu.timer()
    assert explained(trace).loops == ()


def test_a_page_of_memory_that_faults_in_a_row_is_a_loop_of_another_cause() -> None:
    trace = Trace()
    vcpu = trace.thread(0)
    for _ in range(100):
        vcpu.stuck(rip=KERNEL_RIP, gpa=0x10FFE000, error=0x100000006)
    loop = the_loop(trace)
    assert not loop.mmio
    assert find_cause(loop) is INVALIDATION_COUNTER


def test_memory_that_the_host_unmaps_all_the_time_is_another_cause() -> None:
    trace = Trace()
    vcpu, other = trace.thread(0), trace.thread(7)
    for turn in range(100):
        vcpu.stuck(rip=KERNEL_RIP, gpa=0x10FFE000, error=0x100000006)
        if turn % 5 == 0:
            other.write("kvm_unmap_hva_range", "mmu notifier unmap range: 0x7f0000000000 -- 0x7f0000200000")
    loop = the_loop(trace)
    assert (loop.exits, loop.unmapped) == (100, 20)
    assert find_cause(loop) is UNMAPPED_AGAIN


def test_a_refused_page_of_an_encrypted_guest_is_its_own_cause_and_has_no_mode() -> None:
    trace = Trace()
    for _ in range(20):
        trace.thread(0).stuck(rip=0, gpa=0x1729B3000, error=0x1680000007)
    loop = the_loop(trace)
    assert (loop.encrypted, loop.mode) == (True, None)
    assert find_cause(loop) is SNP


def test_private_memory_that_is_not_mapped_is_not_the_counter_of_an_older_kernel() -> None:
    trace = Trace()
    for _ in range(20):
        trace.thread(0).stuck(rip=0, gpa=0x100000000, error=0x500000004)
    assert find_cause(the_loop(trace)) is PRIVATE


@pytest.mark.parametrize("width", [60, 66, 72, 78, 84, 90])
def test_a_trace_that_an_email_wrapped_is_read(width: int) -> None:
    trace = Trace()
    for _ in range(20):
        trace.thread(0).stuck()
    wrapped = [part for line in trace.lines for part in textwrap.wrap(line, width)]
    for lines in (wrapped, [f"> {line}" for line in wrapped]):
        (loop,) = explain(lines, name="trace.txt", at_least=10).loops
        assert (loop.exits, loop.gpa, find_cause(loop)) == (20, GPA, ERRATUM_1096)


def test_the_kernels_own_access_is_not_called_the_erratum() -> None:
    trace = Trace()
    for _ in range(20):
        trace.thread(0).stuck(rip=KERNEL_RIP)
    loop = the_loop(trace)
    assert loop.mode is Mode.KERNEL
    assert find_cause(loop) is NOT_USER


def test_firmware_is_not_called_user_space() -> None:
    trace = Trace()
    for _ in range(20):
        trace.thread(0).stuck(rip=0xFD11D)
    loop = the_loop(trace)
    assert loop.mode is None
    assert "not in the trace" in loop.mode_reason


def test_a_guest_that_runs_where_nothing_is_fetches() -> None:
    trace = Trace()
    for _ in range(20):
        trace.thread(0).stuck(rip=0xFD11D, gpa=0xFED40000, error=0x10000001D)
    loop = the_loop(trace)
    assert loop.direction is None
    assert find_cause(loop) is FETCH


def test_an_instruction_that_kvm_cannot_emulate_is_told_from_one_it_never_tried() -> None:
    trace = Trace()
    vcpu = trace.thread(0)
    for _ in range(20):
        vcpu.write("kvm_exit", f"reason npf rip {RIP:#x} info 10000000f {GPA:x}")
        vcpu.write("kvm_emulate_insn", f"0:{RIP:x}:c5 fe 7f 07 (prot64)")
        vcpu.write("kvm_emulate_insn", f"0:{RIP:x}:c5 fe 7f 07 (prot64) failed")
        vcpu.write("kvm_entry", "vcpu 0")
    loop = the_loop(trace)
    assert (loop.exits, loop.failures) == (20, 20)
    assert find_cause(loop) is NOT_EMULATED


def test_intel_has_the_address_in_the_page_fault_or_nowhere() -> None:
    violation, misconfig = Trace(), Trace()
    for _ in range(20):
        vcpu = violation.thread(0)
        vcpu.write("kvm_exit", f"reason EPT_VIOLATION rip {RIP:#x} info 182 0")
        vcpu.write("kvm_page_fault", f"address {GPA:x} error_code 182")
        misconfig.thread(0).write("kvm_exit", f"reason EPT_MISCONFIG rip {RIP:#x} info 0 0")
    loop = the_loop(violation)
    assert (loop.gpa, loop.direction) == (GPA, Direction.WRITE)
    assert find_cause(loop) is INVALIDATION_COUNTER
    loop = the_loop(misconfig)
    assert (loop.gpa, loop.direction, loop.mmio) == (None, None, True)
    assert find_cause(loop) is INTEL


def test_what_follows_a_gap_says_nothing_of_the_exit_before_it() -> None:
    trace = Trace()
    vcpu = trace.thread(0)  # on host CPU 2
    for _ in range(20):
        vcpu.stuck()
        trace.lines.append("CPU:2 [LOST 30 EVENTS]\n")
    explanation = explained(trace)
    assert explanation.loops == ()
    assert (explanation.lost, explanation.gaps) == (600, 20)
    other = Trace()
    for _ in range(20):
        other.thread(0).stuck()
        other.lines.append("CPU:5 [30 EVENTS DROPPED]\n")
    assert the_loop(other).exits == 20


def test_a_read_that_user_space_never_answers_is_told_and_is_no_loop() -> None:
    trace = Trace()
    vcpu, other = trace.thread(0), trace.thread(1)
    vcpu.intel_read(0xFEBD0000, 1)
    vcpu.intel_read(0xFEBD0000, 1)
    del trace.lines[-2:]
    trace.micros += 4_000_000
    other.timer()
    explanation = explained(trace)
    assert explanation.loops == ()
    assert [(wait.record.gpa, wait.tid, wait.line) for wait in explanation.waiting] == [(0xFEBD0000, 4711, 12)]
    assert explanation.waiting[0].seconds == pytest.approx(4, abs=0.01)
    assert explanation.registers[0].reads == 1


def test_ports_have_rows_of_their_own() -> None:
    trace = Trace()
    vcpu = trace.thread(0)
    vcpu.write("kvm_exit", f"reason IO_INSTRUCTION rip {KERNEL_RIP:#x} info 3f80000 0")
    vcpu.write("kvm_pio", "pio_write at 0x3f8 size 1 count 1 val 0x34 ")
    vcpu.write("kvm_userspace_exit", "reason KVM_EXIT_IO (2)")
    vcpu.write("kvm_entry", "vcpu 0")
    row = explained(trace).registers[0]
    assert (row.space, row.address, row.writes, row.in_user_space, row.last_value) == (Space.PIO, 0x3F8, 1, 1, 0x34)


def test_a_trace_without_seconds_has_counts_and_no_rates() -> None:
    trace = Trace()
    for _ in range(20):
        trace.thread(0).stuck()
    ticks = [line.replace("1234.", "1234").replace("1235.", "1235") for line in trace.lines]
    explanation = explain(ticks, name="trace.txt", at_least=10)
    assert (explanation.seconds, explanation.loops[0].seconds, explanation.loops[0].rate) == (None, None, None)
    assert explanation.loops[0].exits == 20


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda text: "Hi,\n\n" + "".join(f"> {line}\n" for line in text.splitlines()),
        lambda text: "".join(f"{number}:{line}\n" for number, line in enumerate(text.splitlines(), 1)),
        lambda text: "".join(f"2026-08-25T08:00:00.123456789Z {line}\n" for line in text.splitlines()),
        lambda text: text.replace("\n", "\r\n"),
        lambda text: "\ufeff" + text,
        lambda text: text.replace(" ", "\u00a0"),
        lambda text: "\n".join(f"host{number} prose" for number in range(1000)) + "\n" + text,
    ],
    ids=["quoted", "grep -n", "container", "CRLF", "BOM", "no-break spaces", "prose"],
)
def test_a_pasted_trace_is_read_in_every_form(wrapped: Callable[[str], str]) -> None:
    trace = Trace()
    for _ in range(20):
        trace.thread(0).stuck()
    loops = explain(wrapped(trace.text()).splitlines(keepends=True), name="trace.txt", at_least=10).loops
    assert [(loop.exits, loop.tid, loop.thread) for loop in loops] == [(20, 4711, "CPU 0/KVM")]


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([], "trace.txt: holds no event"),
        (["# tracer: nop\n", "#\n"], "trace.txt: holds no event"),
        (
            ["# comment\n", "Dear colleague,\n", "\n"],
            "trace.txt:2: 'Dear colleague,' is not a line of a trace; expected",
        ),
        (["x\n"] * 100_000, "trace.txt:1: 'x' is not a line of a trace"),
        (["<idle>-0 [001] d..2. 1.000000: sched_switch: prev_comm=a\n"], "trace.txt: holds 1 events, none from kvm"),
        (
            ["qemu-1 [001] d..2. 1.000000: kvm_exit: TRAP: HSR_EC: 0x0024 (DABT_LOW), PC: 0xffff800010a0b1c4\n"],
            "trace.txt:1: cannot read 'TRAP: HSR_EC: 0x0024 (DABT_LOW), PC: 0xffff800010a0b1c4'; expected an x86",
        ),
    ],
)
def test_what_is_no_trace_is_refused_with_its_line(lines: list[str], words: str) -> None:
    with pytest.raises(InputError) as caught:
        explain(lines, name="trace.txt", at_least=10)
    assert caught.value.message.startswith(words)


def test_a_file_that_is_no_trace_is_not_read_to_its_end() -> None:
    read = 0

    def endless() -> Iterator[str]:
        nonlocal read
        while True:
            read += 1
            yield "noise\n"

    with pytest.raises(InputError):
        explain(endless(), name="noise", at_least=10)
    assert read < 10_000


@given(st.lists(st.integers(1, 60), min_size=1, max_size=6), st.integers(2, 30))
def test_every_run_of_exits_is_counted_exactly(runs: list[int], at_least: int) -> None:
    trace = Trace()
    vcpu = trace.thread(0)
    for index, count in enumerate(runs):
        for _ in range(count):
            vcpu.stuck(rip=RIP + 0x100 * index, gpa=GPA + index)
        vcpu.timer()
    found = explained(trace, at_least=at_least).loops
    expected = sorted((count, RIP + 0x100 * index) for index, count in enumerate(runs) if count >= at_least)
    assert sorted((loop.exits, loop.rip) for loop in found) == expected


@given(st.lists(st.sampled_from(["stuck", "timer", "read", "write", "gap"]), max_size=120))
def test_no_healthy_access_is_ever_in_a_loop(steps: list[str]) -> None:
    trace = Trace()
    vcpu = trace.thread(0)
    actions: dict[str, Callable[[], None]] = {
        "stuck": vcpu.stuck,
        "timer": vcpu.timer,
        "read": lambda: vcpu.intel_read(0xFED000F0, 1),
        "write": lambda: vcpu.intel_write(GPA, 1),
        "gap": lambda: trace.lines.append("CPU:2 [EVENTS DROPPED]\n"),
    }
    vcpu.timer()
    for step in steps:
        actions[step]()
    explanation = explained(trace, at_least=2)
    assert all(loop.rip == RIP for loop in explanation.loops)
    assert sum(loop.exits for loop in explanation.loops) <= steps.count("stuck")
    assert sum(row.reads for row in explanation.registers) == steps.count("read")
    assert sum(row.writes for row in explanation.registers) == steps.count("write")


def test_a_storm_of_other_faults_costs_no_memory_and_hides_no_loop() -> None:
    trace = Trace()
    vcpu = trace.thread(0)
    for turn in range(3000):
        vcpu.stuck(rip=KERNEL_RIP + turn, gpa=0x1000 * turn, error=0x100000006)
        if turn % 30 == 0:
            vcpu.stuck()
    assert the_loop(trace).exits == 100
