"""A device's proof of life, whatever kind it is of: a disk, a network card, a controller, a USB device.

A card without a short name (rtl8139, vmxnet3) is proven by a frame if the image has a driver for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from testbed.guest.controller import await_controller, prove_controller
from testbed.guest.disk import await_disk, prove_disk
from testbed.guest.nic import await_nic, interface_of, prove_nic
from testbed.guest.pci import addresses
from testbed.guest.shell import PATIENCE
from testbed.guest.usb import await_usb, prove_usb
from testbed.model.device_kind import device_kind

if TYPE_CHECKING:
    from testbed.guest.guest import Guest
    from testbed.model.outcome import Finding
    from testbed.model.spec import Device


class DeviceProof(Protocol):
    """What every proof of life says."""

    @property
    def works(self) -> bool:
        """Return whether the device works."""

    @property
    def observed(self) -> str:
        """Return what was seen."""

    @property
    def evidence(self) -> str:
        """Return where that stands."""

    @property
    def finding(self) -> Finding:
        """Return the proof as a finding."""


async def await_device(guest: Guest, device: Device, *, seconds: float) -> bool:
    """Wait up to `seconds` guest seconds until there is something to prove: block device, interface or driver."""
    proof = device_kind(device.driver).proof
    if proof == "usb":
        return await await_usb(guest, device, seconds=seconds)
    wait = {"disk": await_disk, "nic": await_nic, "controller": await_controller}[proof]
    came = await wait(guest, _name(device), seconds=seconds)
    return await await_nic(guest, device.id, seconds=seconds) if came and _is_other_card(device) else came


async def prove_device(guest: Guest, device: Device, *, patience: float = PATIENCE) -> DeviceProof:
    """Prove that a device works, in the way of its kind; `patience` with a disk's answer is in wall seconds."""
    kind = device_kind(device.driver)
    if kind.proof == "disk":
        return await prove_disk(guest, _name(device), patience=patience)
    if kind.proof == "nic":
        return await prove_nic(guest, device.id, peer=await peer_of(guest, device))
    if kind.proof == "usb":
        return await prove_usb(guest, device)
    function = await prove_controller(guest, device.id)
    if function.driver and _is_other_card(device):
        return await prove_nic(guest, device.id, peer=await peer_of(guest, device))
    return function


def _is_other_card(device: Device) -> bool:
    """Return whether a device without a proof of its own has a network behind it."""
    return device_kind(device.driver).proof == "controller" and "netdev" in device.properties


def _name(device: Device) -> str:
    """Return what a device is found by: a disk's serial number, which is its id unless one is given."""
    return str(device.properties.get("serial", device.id)) if device_kind(device.driver).proof == "disk" else device.id


async def peer_of(guest: Guest, device: Device) -> str:
    """Return the interface of another card on the same hub, if the card is on one."""
    spec = guest.machine.spec
    hubs = {network.id for network in spec.networks if network.backend == "hub"}
    if device.properties.get("netdev") not in hubs:
        return ""
    there = await addresses(guest.machine)
    for other in spec.devices:
        if other.id in there and other.id != device.id and other.properties.get("netdev") in hubs:
            return await interface_of(guest, other.id)
    return ""
