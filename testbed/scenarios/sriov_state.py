"""What the SR-IOV scenarios share: the PF, VFs that work, and whether all of it is where the registers say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.actions.sriov import pf_of, set_vfs
from testbed.guest.drivers import load_drivers
from testbed.guest.vf_link import await_carrier, exchange, interface_at
from testbed.model.errors import BrokenError, TakenAwayError, UnsupportedError
from testbed.model.outcome import Finding
from testbed.model.parameter import Parameter

if TYPE_CHECKING:
    from testbed.guest.sriov import PfInGuest, VfInGuest
    from testbed.scenarios.trial import Trial

#: the network cards' PF driver by its VFs' driver; loaded before there is a VF that asks for it
VF_MODULES = ("igb", "igbvf", "nvme")
#: guest seconds until a VF has carrier; Linux 6.1's igbvf takes 8, since it waits for its PF's reset
READY_SECONDS = 40.0
VFS_OPTION = Parameter(type="int", default=2, min=1, max=255, doc="how many VFs")
_PFS = ("igb", "nvme")


def pf_device(trial: Trial) -> str:
    """Return the id of the first card that may be a PF; raise UnsupportedError if the machine has none."""
    found = trial.spec.devices_of(*_PFS)
    if not found:
        raise UnsupportedError("the machine has no SR-IOV card", hint="use the template that has one: --machine sriov")
    return found[0].id


async def ready_pf(trial: Trial) -> PfInGuest:
    """Return the PF with its driver, its interface (if it has one) up; raise BrokenError without a driver."""
    await load_drivers(trial.guest)
    await trial.guest.load_modules(*VF_MODULES)
    pf = await pf_of(trial.guest, pf_device(trial))
    if not pf.driver:
        raise BrokenError(f"starting state: no driver is bound to the PF {pf.bdf}")
    interface = await interface_at(trial.guest, pf.bdf)
    if interface:
        sample = await await_carrier(trial.guest, interface, seconds=READY_SECONDS)
        if not sample.carrier:
            raise BrokenError(f"starting state: the PF's {interface} has no carrier")
    return pf


async def enabled_vfs(trial: Trial, count: int) -> PfInGuest:
    """Enable VFs and return the PF with them; raise BrokenError if it does not take them."""
    pf = await ready_pf(trial)
    written = await set_vfs(trial.guest, pf.bdf, count)
    if written.lost:
        text = f"the kernel refused {count} VFs: {written.error}, and {written.lost.text}"
        raise TakenAwayError(text, written.lost.options, evidence=written.evidence)
    if not written.taken:
        raise BrokenError(f"starting state: {count} VFs of {pf.bdf}: {written.words}")
    return await pf_of(trial.guest, pf_device(trial))


async def working_vf(trial: Trial, vf: VfInGuest) -> tuple[str, Finding]:
    """Bring a VF's interface up and prove that it carries frames; return it, raise BrokenError if it does not work."""
    interface = await interface_at(trial.guest, vf.bdf)
    if not interface:
        raise BrokenError(f"starting state: VF {vf.number} at {vf.bdf} has no network interface")
    await await_carrier(trial.guest, interface, seconds=READY_SECONDS)
    answer = await exchange(trial.guest, interface)
    if not answer.works:
        raise BrokenError(f"starting state: VF {vf.number}'s {interface} does not work: {answer.observed}")
    finding = Finding(
        subject=f"VF {vf.number} ({vf.bdf}, {interface})",
        expected="carrier, and a frame that comes back",
        observed=answer.observed,
        evidence=answer.evidence,
    )
    return interface, finding


def check_vfs(pf: PfInGuest, count: int) -> list[Finding]:
    """Compare what the guest has with what the PF's registers say: how many VFs, where, their ids and BARs."""
    registers = pf.sriov
    rows = [
        ("VFs in sysfs", f"{count}", f"{len(pf.vfs)}"),
        ("NumVFs", f"{count}", f"{registers.num_vfs}"),
        ("sriov_offset and sriov_stride", f"{registers.offset} and {registers.stride}", f"{pf.offset} and {pf.stride}"),
        ("sriov_vf_device", f"{registers.vf_device:04x}", f"{pf.vf_device:04x}"),
        ("ARI Capable Hierarchy", str(pf.ari), str(registers.ari_hierarchy)),
    ]
    for vf in pf.vfs:
        bars = ", ".join(map(str, pf.expected_bars(vf.number)))
        rows += [
            (f"address of VF {vf.number}", str(pf.expected_bdf(vf.number)), str(vf.bdf)),
            (
                f"ids of VF {vf.number}",
                f"{pf.vendor:04x}:{registers.vf_device:04x}",
                f"{vf.vendor:04x}:{vf.device:04x}",
            ),
            (f"BARs of VF {vf.number}", bars, ", ".join(map(str, vf.bars))),
            (f"registers 0 to 3 of VF {vf.number}", "ffff:ffff", _raw(vf)),
        ]
    return [
        Finding(subject=subject, expected=expected, observed=observed, evidence=pf.evidence)
        for subject, expected, observed in rows
    ]


def differing(findings: list[Finding]) -> list[Finding]:
    """Return the findings in which something else was seen than expected; what follows a break is an addition."""
    return [each for each in findings if each.expected not in (each.observed, *_begins(each.observed))]


def _begins(text: str) -> list[str]:
    return [text[:at] for at, char in enumerate(text) if char in " ,:"]


def _raw(vf: VfInGuest) -> str:
    return f"{vf.raw_ids[0]:04x}:{vf.raw_ids[1]:04x}" if vf.raw_ids else "nothing answers"
