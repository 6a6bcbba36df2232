from __future__ import annotations

from testbed.actions.error_chain import chain_findings, error_chain, missing_step
from testbed.guest.tracing import parse_trace

# laid out as an L1 with Linux 6.1 printed it; shortened
TRACE = """\
# tracer: function
#
#           TASK-PID     CPU#  |||||  TIMESTAMP  FUNCTION
 qemu-system-x86-112     [001] .....    35.100000: sys_write(fd: 5, buf: 7f, count: 8)
          <idle>-0       [000] d.h..    35.612345: aer_irq <-__handle_irq_event_percpu
   irq/24-aerdrv-58      [000] .....    35.613000: aer_isr <-irq_thread_fn
   irq/24-aerdrv-58      [000] .....    35.614000: pcie_do_recovery <-aer_process_err_devices
   irq/24-aerdrv-58      [000] .....    35.614500: igb_io_error_detected <-report_error_detected
   irq/24-aerdrv-58      [000] .....    35.614600: eventfd_signal <-irqfd_wakeup
   irq/24-aerdrv-58      [000] .....    35.615000: vfio_pci_core_aer_err_detected <-report_error_detected
   irq/24-aerdrv-58      [000] .....    35.615100: eventfd_signal <-vfio_pci_core_aer_err_detected
 qemu-system-x86-113     [001] .....    35.615200: sys_read(fd: 9, buf: 7f, count: 8)
 qemu-system-x86-112     [001] .....    35.615300: sys_read(fd: 21, buf: 7f, count: 200)
 qemu-system-x86-112     [001] .....    35.615400: sys_write(fd: 2, buf: 7f, count: 80)
 qemu-system-x86-112     [001] .....    35.617345: sys_sendmsg(fd: a, msg: 7f, flags: 4000)
"""


def test_the_steps_stand_in_the_order_in_which_they_happened() -> None:
    steps = error_chain(parse_trace(TRACE), 112)
    assert [(step.line.number, step.what) for step in steps] == [
        (5, "the root port interrupts"),
        (6, "the kernel's AER driver reads the error"),
        (7, "the AER driver begins the recovery"),
        (8, "the AER driver tells igb"),
        (10, "the AER driver tells vfio-pci"),
        (11, "vfio-pci signals the error eventfd"),
        (13, "QEMU reads the eventfd"),
        (14, "QEMU says so on stderr, and stops the VM"),
        (15, "QEMU sends the event STOP"),
    ]
    assert chain_findings(steps)[-1].observed == "+5.00 ms: QEMU sends the event STOP"


def test_without_vfio_nobody_tells_qemu() -> None:
    lines = [line for line in parse_trace(TRACE) if "vfio" not in line.text]
    assert [step.line.number for step in error_chain(lines, 112)] == [5, 6, 7, 8]


def test_a_whole_chain_lacks_nothing_and_a_broken_one_names_its_first_gap() -> None:
    steps = error_chain(parse_trace(TRACE), 112)
    assert missing_step(steps, host_driver=True) == ""
    for number, step in enumerate(steps):
        assert missing_step(steps[:number] + steps[number + 1 :], host_driver=True) == step.what
    assert missing_step([], host_driver=False) == steps[0].what


def test_steps_in_another_order_are_no_chain() -> None:
    steps = error_chain(parse_trace(TRACE), 112)
    swapped = [*steps[:3], steps[4], steps[3], *steps[5:]]
    assert missing_step(swapped, host_driver=True) == steps[4].what
    assert missing_step(swapped, host_driver=False) == ""
