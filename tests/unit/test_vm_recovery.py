"""What a VM's own recovery comes to: each way in which it can fail has its own name; and the resets are counted."""

from __future__ import annotations

from dataclasses import replace

import pytest

from testbed.actions.reset_count import NONE, resets_finding
from testbed.actions.sriov import Written
from testbed.guest.tracing import parse_trace
from testbed.model.kernel_log import LogRecord
from testbed.model.outcome import Finding, Verdict
from testbed.model.recovery import Recovery, read_recoveries
from testbed.scenarios.passthrough_state import FRAME
from testbed.scenarios.vm_life import VmLife
from testbed.scenarios.vm_recovery_judgement import Course, judge

TRACE = """\
# tracer: function
 qemu-system-x86-104     [000] .....    90.172928: pci_reset_bus <-vfio_pci_core_ioctl
 qemu-system-x86-104     [000] .....    90.182928: pci_bridge_secondary_bus_reset <-pciehp_reset_slot
 qemu-system-x86-104     [000] .....    91.172928: pcie_flr <-__pci_reset_function_locked
 qemu-system-x86-104     [000] .....    92.172928: pcie_flr <-__pci_reset_function_locked
              sh-110     [000] .....    93.172928: vfio_pci_core_ioctl <-vfio_device_fops_unl_ioctl
"""
BEGUN = "pcieport 0000:00:03.0: AER: Uncorrected (Non-Fatal) error message received from 0000:02:00.0"
ENDED = "pcieport 0000:00:03.0: AER: device recovery successful"
FAILED = "pcieport 0000:00:03.0: AER: device recovery failed"


def finding(observed: str) -> Finding:
    return Finding(subject="s", expected="e", observed=observed, evidence="trace.txt")


def recovery(*lines: str) -> Recovery:
    records = [LogRecord(sequence=n, seconds=n, level=3, text=text, line=n) for n, text in enumerate(lines)]
    return read_recoveries(records).recoveries[0]


LIFE = VmLife(status="running", answers=True, findings=())
TAKEN = Written(file="0000:02:00.0/reset", value="1", error="", messages="", seconds=0.5, evidence="shell.jsonl:1")
COURSE = Course(
    passed=True,
    injection=None,
    written=None,
    recovery=recovery(BEGUN, ENDED),
    life=LIFE,
    function=finding(FRAME),
    resets=finding(NONE),
)
RESET = replace(COURSE, written=TAKEN, recovery=None, resets=finding("pcie_flr 1 (by x)"))


def test_resets_are_counted_by_who_asked_for_them() -> None:
    seen = resets_finding(parse_trace(TRACE), "resets")
    assert seen.observed == (
        "pci_reset_bus 1 (by vfio_pci_core_ioctl), pci_bridge_secondary_bus_reset 1 (by pciehp_reset_slot), "
        "pcie_flr 2 (by __pci_reset_function_locked)"
    )
    assert seen.evidence == "trace.txt:2"
    assert resets_finding([], "resets").observed == NONE


@pytest.mark.parametrize(
    ("course", "outcome"),
    [
        (COURSE, "recovered"),
        (replace(COURSE, recovery=None), "untold"),
        (replace(COURSE, recovery=recovery(BEGUN)), "unfinished"),
        (replace(COURSE, recovery=recovery(BEGUN, FAILED)), "failed"),
        (replace(COURSE, function=finding("no carrier")), "lost"),
        (replace(COURSE, life=replace(LIFE, status="internal-error", answers=False), recovery=None), "stopped"),
        (replace(COURSE, life=replace(LIFE, status="paused", answers=False)), "paused"),
        (replace(COURSE, life=replace(LIFE, answers=False)), "dead"),
        (RESET, "reset"),
        (replace(RESET, written=replace(TAKEN, error="Inappropriate ioctl for device")), "refused"),
        (replace(RESET, resets=finding(NONE)), "not-carried-out"),
        (replace(RESET, resets=finding(NONE), passed=False), "reset"),
        (replace(RESET, function=finding("no carrier")), "lost"),
    ],
)
def test_each_end_of_a_vm_s_recovery_has_its_name(course: Course, outcome: str) -> None:
    judgement = judge(course, [])
    assert judgement.outcome == outcome
    assert judgement.verdict is (Verdict.GOOD if outcome in ("recovered", "reset") else Verdict.BAD)
