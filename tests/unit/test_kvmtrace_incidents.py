"""What happens to a vCPU besides a loop: how it ends, which error KVM_RUN returns, what becomes of a failed emulation.

The sequences of events are those of published traces, with other numbers.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from testbed.kvmtrace.cause import ERRATUM_1096, INVALIDATION_COUNTER, UNMAPPED_AGAIN, find_cause
from testbed.kvmtrace.explanation import Explanation, explain
from testbed.kvmtrace.incident import Incident, Kind, parse_qemu_words
from testbed.kvmtrace.run import Ending
from tests.unit.kvm_traces import GPA, KERNEL_RIP, RIP, Thread, Trace

DATA = Path(__file__).parent.parent / "data" / "kvm"


def explained(trace: Trace, *, before: str = "") -> Explanation:
    return explain([*before.splitlines(), *trace.lines], name="trace.txt", at_least=10)


def the_incident(trace: Trace) -> Incident:
    explanation = explained(trace)
    assert explanation.loops == ()
    assert not explanation.is_healthy
    (each,) = explanation.incidents
    return each.incident


def failed_emulation(vcpu: Thread, rip: int = KERNEL_RIP, instruction: str = "f3 a5") -> None:
    vcpu.write("kvm_exit", f"reason EPT_VIOLATION rip {rip:#x} info 181 0")
    vcpu.write("kvm_page_fault", f"address {GPA:x} error_code 181")
    vcpu.write("kvm_emulate_insn", f"0:{rip:x}: {instruction}")
    vcpu.write("kvm_emulate_insn", f"0:{rip:x}: {instruction} FAIL")


def test_an_emulation_that_failed_may_be_the_end_of_the_vcpu() -> None:
    trace = Trace()
    failed_emulation(trace.thread(0))
    trace.thread(0).write("kvm_userspace_exit", "reason KVM_EXIT_INTERNAL_ERROR (17)")
    incident = the_incident(trace)
    assert (incident.kind, incident.instruction, incident.gpa) == (Kind.INTERNAL_ERROR, "f3 a5", GPA)
    assert incident.exit is not None
    assert (incident.exit.rip, incident.entered, incident.first_line) == (KERNEL_RIP, False, 5)
    assert "could not emulate" in incident.meaning


@pytest.mark.parametrize("nested", [True, False])
def test_an_emulation_that_failed_may_be_an_undefined_instruction_to_the_guest(nested: bool) -> None:
    trace = Trace()
    vcpu = trace.thread(0)
    failed_emulation(vcpu)
    if nested:
        rest = "info1 181 info2 0 int_info 0 int_info_err 0"
        trace.lines.insert(1, trace.lines[0].replace("kvm_exit: ", f"kvm_nested_vmexit: rip 1 reason X {rest} "))
    vcpu.write("kvm_inj_exception", "#UD (0x0)")
    vcpu.write("kvm_entry", "vcpu 0")
    incident = the_incident(trace)
    assert (incident.kind, incident.exception, incident.nested) == (Kind.NOT_EMULATED, "#UD", nested)
    assert incident.entered
    assert incident.user_exit is None


def test_an_emulation_that_failed_at_the_end_of_an_excerpt_is_told() -> None:
    trace = Trace()
    failed_emulation(trace.thread(0))
    incident = the_incident(trace)
    assert (incident.kind, incident.exception) == (Kind.NOT_EMULATED, "")


def test_the_same_emulation_again_and_again_is_a_loop_and_nothing_besides() -> None:
    trace = Trace()
    for _ in range(20):
        failed_emulation(trace.thread(0), rip=RIP)
        trace.thread(0).write("kvm_inj_exception", "#UD (0x0)")
        trace.thread(0).write("kvm_entry", "vcpu 0")
    explanation = explained(trace)
    assert [(loop.exits, loop.failures) for loop in explanation.loops] == [(20, 20)]
    assert explanation.incidents == ()


def test_an_error_of_kvm_run_is_told_with_its_name_and_is_no_silent_loop() -> None:
    trace = Trace()
    vcpu = trace.thread(1)
    for _ in range(30):
        vcpu.write("kvm_entry", f"vcpu 1, rip {RIP:#x}")
        vcpu.write("kvm_exit", f"vcpu 1 reason EPT_VIOLATION rip {RIP:#x} info1 0x181 info2 0x0")
        vcpu.write("kvm_page_fault", "address 3fef42812000 error_code 181")
        vcpu.write("kvm_userspace_exit", "reason error (14)")
    incident = the_incident(trace)
    assert (incident.kind, incident.errno_name, incident.count) == (Kind.ERROR, "EFAULT", 30)
    assert (incident.gpa, incident.first_line, incident.last_line) == (0x3FEF42812000, 4, 120)


def test_a_signal_and_what_qemu_serves_every_day_are_no_incident() -> None:
    trace = Trace()
    for reason in ("restart (4)", "KVM_EXIT_HLT (5)", "KVM_EXIT_INTR (10)", "KVM_EXIT_IO (2)", "KVM_EXIT_DEBUG (4)"):
        trace.thread(0).write("kvm_exit", f"reason hlt rip {KERNEL_RIP:#x} info 0 0")
        trace.thread(0).write("kvm_userspace_exit", f"reason {reason}")
        trace.thread(0).write("kvm_entry", "vcpu 0")
    assert explained(trace).is_healthy


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("KVM_EXIT_SHUTDOWN (8)", Kind.SHUTDOWN),
        ("KVM_EXIT_FAIL_ENTRY (9)", Kind.ENTRY_FAILED),
        ("KVM_EXIT_UNKNOWN (0)", Kind.UNKNOWN_EXIT),
        ("0x25 (37)", Kind.NOTIFY),
    ],
)
def test_every_other_end_has_its_name(reason: str, kind: Kind) -> None:
    trace = Trace()
    trace.thread(0).write("kvm_exit", "vcpu 0 reason TRIPLE_FAULT rip 0x100146 info1 0x0 info2 0x0")
    trace.thread(0).write("kvm_userspace_exit", f"reason {reason}")
    incident = the_incident(trace)
    assert incident.kind is kind
    assert incident.meaning


def test_an_event_that_could_not_be_delivered_is_named() -> None:
    # Intel's vectoring information: valid, an exception, vector 14
    trace = Trace()
    trace.thread(0).write("kvm_exit", "reason EPT_MISCONFIG rip 0x7c00 info 0 80000b0e")
    trace.thread(0).write("kvm_userspace_exit", "reason KVM_EXIT_INTERNAL_ERROR (17)")
    assert "exception 0xe" in the_incident(trace).meaning


def test_without_threads_the_vcpus_are_told_apart_by_their_numbers() -> None:
    rest = "info1 0x000000010000000f info2 0x00000000fe000014 intr_info 0x00000000 error_code 0x00000000"
    lines = []
    for turn in range(20):
        for vcpu in (0, 1):
            head = f"    [00{vcpu}]   770.83{turn:02}{vcpu}0: kvm:"
            rip = RIP if vcpu else RIP + turn
            lines.append(f"{head}kvm_entry: vcpu {vcpu}, rip {rip:#x}")
            lines.append(f"{head}kvm_exit: vcpu {vcpu} reason npf rip {rip:#x} {rest}")
    explanation = explain(lines, name="trace.txt", at_least=10)
    assert [(loop.vcpu, loop.tid, loop.exits) for loop in explanation.loops] == [(1, None, 20)]


def test_an_end_without_an_exit_before_it_is_told() -> None:
    trace = Trace()
    trace.thread(0).write("kvm_userspace_exit", "reason KVM_EXIT_SHUTDOWN (8)")
    incident = the_incident(trace)
    assert (incident.kind, incident.exit) == (Kind.SHUTDOWN, None)


def test_qemus_words_are_read_with_their_data() -> None:
    trace = Trace()
    trace.thread(0).timer()
    log = "KVM internal error. Suberror: 3\nextra data[0]: 0x0000000080000b0e\nextra data[1]: 0x31\nRAX=0 RBX=1\n"
    (error,) = explained(trace, before=f"hello\n{log}").qemu_errors
    assert (error.suberror, error.data, error.line) == (3, [0x80000B0E, 0x31], 2)
    (error,) = explained(trace, before="error: kvm run failed Bad address\n").qemu_errors
    assert error.words == "error: kvm run failed Bad address"
    assert parse_qemu_words("hello", line=1) is None


def test_the_traces_of_a_level_1_host_are_read() -> None:
    def read(name: str) -> Explanation:
        return explain((DATA / name).read_text().splitlines(), name=name, at_least=10)

    (loop,) = read("unmapped-again.trace").loops
    assert (loop.exits, loop.rip, loop.gpa, loop.ending) == (117, 0x1000, 32 << 20, Ending.LEFT)
    assert find_cause(loop) is UNMAPPED_AGAIN
    (failed,) = read("efault.trace").incidents
    assert (failed.incident.errno_name, failed.incident.count, failed.incident.gpa) == ("EFAULT", 9, 32 << 20)
    (ended,) = read("not-emulated.trace").incidents
    assert (ended.incident.kind, ended.incident.instruction) == (Kind.INTERNAL_ERROR, "0f 58")
    assert not ended.incident.entered


def test_the_published_excerpts_have_their_numbers() -> None:
    """The five lines of the report that docs/mmio.md begins with, and the vCPU that never got its page mapped."""
    head = "           <...>-35787 [004] .... 246654.769"
    report = [f"{head}{n}: kvm_exit: reason npf rip 0x4f1184 info 10000000f fe000014" for n in range(261, 266)]
    (suspicion,) = explain(report, name="report", at_least=10).suspicions
    assert (suspicion.exits, find_cause(suspicion)) == (5, ERRATUM_1096)
    head = " CPU 1/KVM-41170 [011]  4412.10"
    rip, gpa = 0xFFFFFFFFA1720B2B, 0xE44EB2FF8
    stale = [f"{head}{n:04}: kvm_exit: reason EXIT_NPF rip {rip:#x} info 200000006 {gpa:x}" for n in range(14)]
    (loop,) = explain(stale, name="report", at_least=10).loops
    assert (loop.exits, loop.gpa, find_cause(loop)) == (14, gpa, INVALIDATION_COUNTER)
