"""Traces as trace-cmd and ftrace write them, made line by line."""

from __future__ import annotations

from dataclasses import dataclass, field

#: the report's instruction and register
RIP = 0x4F1184
GPA = 0xFE000014
KERNEL_RIP = 0xFFFFFFFF8143F0A2


@dataclass
class Thread:
    """A vCPU thread that writes into a trace."""

    trace: Trace
    vcpu: int
    tid: int

    def write(self, event: str, text: str, *, micros: int = 1) -> None:
        self.trace.write(self, event, text, micros=micros)

    def stuck(self, *, rip: int = RIP, gpa: int = GPA, error: int = 0x10000000F, micros: int = 300) -> None:
        """Write one turn of the erratum's loop, as a host before 5.3 shows it."""
        self.write("kvm_exit", f"reason npf rip {rip:#x} info {error:x} {gpa:x}", micros=micros)
        self.write("kvm_page_fault", f"address {gpa:x} error_code {error & 0xFFFFFFFF:x}")
        self.write("kvm_entry", f"vcpu {self.vcpu}")

    def timer(self) -> None:
        """Write a timer interrupt that the guest's kernel serves."""
        self.write("kvm_exit", f"reason interrupt rip {RIP:#x} info 0 0")
        self.write("kvm_entry", f"vcpu {self.vcpu}")
        self.write("kvm_exit", "reason msr rip 0xffffffff8106a4b4 info 1 0")
        self.write("kvm_entry", f"vcpu {self.vcpu}")

    def intel_read(self, gpa: int, value: int, *, rip: int = KERNEL_RIP, width: int = 4) -> None:
        """Write a read that QEMU answers, as a recent Intel host shows it."""
        zeros = "info1 0x0000000000000000 info2 0x0000000000000000 intr_info 0x00000000 error_code 0x00000000"
        self.write("kvm_exit", f"vcpu {self.vcpu} reason EPT_MISCONFIG rip {rip:#x} {zeros}", micros=100)
        self.write("kvm_emulate_insn", f"0:{rip:x}:8b 07 (prot64)")
        self.write("vcpu_match_mmio", f"gva 0xffffc90000005060 gpa {gpa:#x} Read GPA")
        self.write("kvm_mmio", f"mmio unsatisfied-read len {width} gpa {gpa:#x} val 0x0")
        self.write("kvm_userspace_exit", "reason KVM_EXIT_MMIO (6)")
        self.write("kvm_mmio", f"mmio read len {width} gpa {gpa:#x} val {value:#x}", micros=10)
        self.write("kvm_entry", f"vcpu {self.vcpu}, rip {rip + 2:#x}")

    def intel_write(self, gpa: int, value: int, *, rip: int = KERNEL_RIP + 0x10, width: int = 4) -> None:
        """Write a write that QEMU takes."""
        self.write("kvm_exit", f"vcpu {self.vcpu} reason EPT_MISCONFIG rip {rip:#x} info 0 0", micros=100)
        self.write("kvm_emulate_insn", f"0:{rip:x}:89 07 (prot64)")
        self.write("kvm_mmio", f"mmio write len {width} gpa {gpa:#x} val {value:#x}")
        self.write("kvm_userspace_exit", "reason KVM_EXIT_MMIO (6)")
        self.write("kvm_entry", f"vcpu {self.vcpu}, rip {rip + 2:#x}", micros=10)


@dataclass
class Trace:
    """The lines of a trace, in the layout of trace-cmd or of ftrace."""

    flags: str = ""  #: ftrace's column of interrupt flags, with a blank behind it
    lines: list[str] = field(default_factory=list)
    micros: int = 1_234_500_000

    def thread(self, vcpu: int) -> Thread:
        return Thread(self, vcpu, 4711 + vcpu)

    def write(self, thread: Thread, event: str, text: str, *, micros: int) -> None:
        self.micros += micros
        time = f"{self.micros // 1_000_000}.{self.micros % 1_000_000:06}"
        name = f"CPU {thread.vcpu}/KVM-{thread.tid}"
        self.lines.append(f"{name:>20}  [{thread.vcpu + 2:03}] {self.flags}{time}: {event + ':':<21} {text}\n")

    def text(self) -> str:
        return "".join(self.lines)
