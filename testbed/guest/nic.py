"""A network card as the guest sees it: found by its place, proven by carrier and a frame that comes back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from testbed.guest.files import show
from testbed.guest.pci import address_of
from testbed.model.outcome import Finding

if TYPE_CHECKING:
    from testbed.guest.guest import Guest
    from testbed.guest.shell import Result

_INTERFACES = "/sys/class/net/*"


@dataclass(frozen=True, kw_only=True)
class NicProof:
    """What a proof of life found."""

    device_id: str
    interface: str  #: `eth0`; empty if there is none
    carrier: bool
    works: bool
    observed: str
    evidence: str

    @property
    def finding(self) -> Finding:
        """Return the proof as a finding."""
        return Finding(
            subject=f"network card {self.device_id}",
            expected="carrier, and a frame that comes back",
            observed=self.observed,
            evidence=self.evidence,
        )


async def interface_of(guest: Guest, device_id: str) -> str:
    """Return the name of a card's network interface, or an empty string."""
    return (await _find(guest, device_id))[0]


async def await_nic(guest: Guest, device_id: str, *, seconds: float) -> bool:
    """Wait up to `seconds` guest seconds for the interface; a driver needs a moment after the PCI function."""
    folder = (await address_of(guest.machine, device_id)).sysfs
    look = f"ls -d {folder}/net/* {folder}/virtio*/net/* 2>/dev/null | grep ."
    guest.machine.journal.step("guest", f"sleep 1; {look} || echo no interface of {device_id}")
    return await guest.shell.wait_until_succeeds(look, seconds=seconds)


async def prove_nic(guest: Guest, device_id: str, *, peer: str = "") -> NicProof:
    """Bring a card's interface up, wait for carrier and exchange a frame; the interface stays up.

    What answers is the gateway of QEMU's user network. On a hub nothing does: there `peer` is another card's interface,
    which must see the frame.
    """
    interface, evidence = await _find(guest, device_id)
    if not interface:
        observed = "no such network interface"
        return NicProof(
            device_id=device_id, interface="", carrier=False, works=False, observed=observed, evidence=evidence
        )
    result = await guest.shell.run_verb("prove-nic", interface, *([peer] if peer else []))
    return NicProof(
        device_id=device_id,
        interface=interface,
        carrier="carrier" in result.text.splitlines(),
        works=result.status == 0,
        observed=f"{interface}: {_observed(result)}",
        evidence=result.evidence,
    )


def _observed(result: Result) -> str:
    return ", ".join(part for part in (*result.text.splitlines(), result.error) if part)


async def _find(guest: Guest, device_id: str) -> tuple[str, str]:
    """Return the interface (or nothing) and where that was read; each one is a link into its device's folder."""
    address = str(await address_of(guest.machine, device_id))
    shown = await show(guest, _INTERFACES)
    for path, target in shown.links.items():
        # …/0000:01:00.0/net/eth0, or …/0000:01:00.0/virtio0/net/eth0
        if address in PurePosixPath(target).parts[-4:]:
            return PurePosixPath(path).name, shown.evidence
    return "", shown.evidence
