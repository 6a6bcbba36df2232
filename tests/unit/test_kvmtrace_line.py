"""Lines of traces: the columns that trace-cmd, ftrace and perf put before an event."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.kvmtrace.line import LostEvents, TraceLine, is_frame, parse_line

EVENT = "kvm_entry: vcpu 0"


@pytest.mark.parametrize(
    ("head", "comm", "tid", "tgid", "cpu", "seconds"),
    [
        (" qemu-system-x86-2871  [003]  1234.567890: ", "qemu-system-x86", 2871, None, 3, 1234.56789),
        ("       CPU 0/KVM-4711  [119] d..2. 246654.769261: ", "CPU 0/KVM", 4711, None, 119, 246654.769261),
        ("       CPU 0/KVM-4711    (   4700) [002] .....   140.314708: ", "CPU 0/KVM", 4711, 4700, 2, 140.314708),
        ("           <...>-35787   (-------) [038] ....  2825.959082: ", "", 35787, None, 38, 2825.959082),
        ("kvm-5664  [000] 11906.220178: ", "kvm", 5664, None, 0, 11906.220178),
        ("a-b-7-99 [001] .... 1.000001: ", "a-b-7", 99, None, 1, 1.000001),
        ("      CPU 0/KVM  699876 [020] 18136.763705:        kvm:", "CPU 0/KVM", 699876, None, 20, 18136.763705),
        ("      CPU 0/KVM 4700/4711 [020] 18136.763705:      kvm:", "CPU 0/KVM", 4711, 4700, 20, 18136.763705),
        ("       CPU 0/KVM-4711  [003] d..1. 83920473920473: ", "CPU 0/KVM", 4711, None, 3, None),
        ("       CPU 0/KVM-4711  [003] 12.000001: (+17) ", "CPU 0/KVM", 4711, None, 3, 12.000001),
        ("       CPU 0/KVM-4711  [003] 12.123456789: ", "CPU 0/KVM", 4711, None, 3, 12.123456789),
    ],
)
def test_every_column_before_the_event_is_read(
    head: str, comm: str, tid: int, tgid: int | None, cpu: int, seconds: float | None
) -> None:
    line = parse_line(head + EVENT + "\n", number=5)
    assert isinstance(line, TraceLine)
    assert line == TraceLine(5, comm, tid, tgid, cpu, seconds, "kvm_entry", "vcpu 0")


@pytest.mark.parametrize(
    ("head", "comm", "tid", "tgid", "cpu", "seconds"),
    [
        # perf script -F cpu,time,event,trace and other choices
        ("    [001]   770.830287:                      kvm:", "", None, None, 1, 770.830287),
        ("   770.830287:                      kvm:", "", None, None, None, 770.830287),
        ("  4711 [001]   770.830287:     kvm:", "", 4711, None, 1, 770.830287),
        ("CPU 0/KVM [001]   770.830287:     kvm:", "CPU 0/KVM", None, None, 1, 770.830287),
        ("CPU 0/KVM  4700/4711   770.830287:     kvm:", "CPU 0/KVM", 4711, 4700, None, 770.830287),
        # trace-cmd report -l, and what ftrace_dump_on_oops leaves in the kernel's log
        ("CPU 0/K-4711   2d..1  1234.500300: ", "CPU 0/K", 4711, None, 2, 1234.5003),
        ("   <...>-4711    2d..1. 12345678us : ", "", 4711, None, 2, 12.345678),
    ],
)
def test_a_column_may_be_missing_or_narrow(
    head: str, comm: str, tid: int | None, tgid: int | None, cpu: int | None, seconds: float
) -> None:
    line = parse_line(head + EVENT + "\n", number=5)
    assert line == TraceLine(5, comm, tid, tgid, cpu, seconds, "kvm_entry", "vcpu 0")


@pytest.mark.parametrize(
    "text", ["Hello: kvm_exit: x", "at 12:30: kvm_exit: x", "12.5: sched_switch: x", "kvm_exit: x"]
)
def test_prose_is_no_event(text: str) -> None:
    assert parse_line(text, number=1) is None


@pytest.mark.parametrize(
    ("text", "lost"),
    [
        ("CPU:7 [204600 EVENTS DROPPED]\n", LostEvents(7, 204600)),
        ("CPU:7 [EVENTS DROPPED]\n", LostEvents(7, None)),
        ("CPU:3 [LOST 4242 EVENTS]\n", LostEvents(3, 4242)),
        ("CPU:3 [LOST EVENTS]\n", LostEvents(3, None)),
    ],
)
def test_gaps_are_told(text: str, lost: LostEvents) -> None:
    assert parse_line(text, number=1) == lost


@pytest.mark.parametrize(
    "text",
    [
        "# tracer: nop\n",
        "#           TASK-PID     CPU#  |||||  TIMESTAMP  FUNCTION\n",
        "##### CPU 2 buffer started ####\n",
        "cpus=8\n",
        "version = 6\n",
        "CPU 3 is empty\n",
        " => kvm_arch_vcpu_ioctl_run\n",
        "\n",
    ],
)
def test_what_stands_between_events_is_known(text: str) -> None:
    assert parse_line(text, number=1) is None
    assert is_frame(text)


@given(st.text(max_size=400))
def test_no_text_makes_the_parser_raise(text: str) -> None:
    line = parse_line(text, number=1)
    assert line is None or isinstance(line, TraceLine | LostEvents)


@given(
    st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=15).filter(
        lambda name: name != "<...>"
    ),
    st.integers(1, 4_194_304),
    st.integers(0, 8191),
    st.integers(0, 10**15),
)
def test_every_thread_name_is_read_whole(comm: str, tid: int, cpu: int, micros: int) -> None:
    head = f"{comm:>16}-{tid:<7} [{cpu:03}] d..2. {micros // 10**6:5}.{micros % 10**6:06}: "
    line = parse_line(head + EVENT, number=1)
    assert isinstance(line, TraceLine)
    assert (line.comm, line.tid, line.cpu, line.text) == (comm, tid, cpu, "vcpu 0")
