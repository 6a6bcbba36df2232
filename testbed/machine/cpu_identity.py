"""The identity of a machine's vCPUs, asked of QEMU: the guest reads the same by CPUID."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.model.cpu_identity import CpuIdentity

if TYPE_CHECKING:
    from testbed.machine.qmp import Qmp


async def cpu_identity(qmp: Qmp) -> CpuIdentity:
    """Return the identity of vCPU 0; QEMU makes all of a machine's alike (target/i386/cpu.c, x86_cpu_initfn)."""
    path = (await qmp.execute_unrepeated("query-cpus-fast"))[0]["qom-path"]
    vendor, family, model = [
        await qmp.execute_unrepeated("qom-get", {"path": path, "property": name})
        for name in ("vendor", "family", "model")
    ]
    return CpuIdentity(vendor=vendor, family=family, model=model)
