"""Customers' files as kernels 3.10 to 7.1, lspci and /proc write them, cut to what the explaining rests on."""

from __future__ import annotations

COMPLETE = "ExtendedConfig ASPM ClockPM Segments MSI HPX-Type3"
REFUSAL = "_OSC: not requesting OS control; OS requires [ExtendedConfig ASPM ClockPM MSI]"
Q35_DMI = "DMI: QEMU Standard PC (Q35 + ICH9, 2009), BIOS 1.16.2-1 04/01/2014"
I440FX_DMI = "DMI: QEMU Standard PC (i440FX + PIIX, 1996), BIOS 1.16.2-1 04/01/2014"
SERVER_DMI = "DMI: Contoso Server 4000/0X1234, BIOS 2.1.7 03/03/2021"


def stamped(*messages: str) -> str:
    """Return messages as dmesg prints them."""
    return "".join(f"[{0.25 * number:12.6f}] {message}\n" for number, message in enumerate(messages))


def boot(cmdline: str, *messages: str, version: str = "6.1.0-56-amd64", dmi: str = Q35_DMI) -> str:
    """Return a log from its first line on, past the scan of the PCI buses."""
    head = (f"Linux version {version} (build@host) #1 SMP", f"Command line: {cmdline}", dmi)
    return stamped(*head, f"Kernel command line: {cmdline}", *messages, "NET: Registered PF_INET protocol family")


def root(number: int = 0, first: int = 0, last: int = 0xFF) -> str:
    """Return the line that announces a host bridge."""
    return f"ACPI: PCI Root Bridge [PCI{number}] (domain 0000 [bus {first:02x}-{last:02x}])"


def bridge(*words: str, hid: str = "PNP0A08:00") -> tuple[str, ...]:
    """Return the lines about one host bridge."""
    return tuple(f"acpi {hid}: {text}" for text in words)


def negotiated(*, lacks: str = "LTR", got: str = "PCIeHotplug SHPCHotplug PME AER PCIeCapability") -> tuple[str, ...]:
    """Return a negotiation in which Linux got something."""
    return (
        root(),
        *bridge(
            f"_OSC: OS supports [{COMPLETE}]",
            f"_OSC: platform does not support [{lacks}]",
            f"_OSC: OS now controls [{got}]",
        ),
        "PCI host bridge to bus 0000:00",
    )


def refused(supports: str, hid: str = "PNP0A08:00") -> tuple[str, ...]:
    """Return a negotiation in which Linux asked for nothing."""
    return (root(), *bridge(f"_OSC: OS supports [{supports}]", REFUSAL, hid=hid))


SLOT_FLAGS = "AttnBtn+ PwrCtrl+ MRL- AttnInd+ PwrInd+ HotPlug+ Surprise+ Interlock+ NoCompl-"
#: what the port services say on one port, by the kernels that say it so
PORT_WORDS = {
    "3.10": (
        "pcieport 0000:00:02.0: irq 24 for MSI/MSI-X",
        "pcieport 0000:00:02.0: Signaling PME through PCIe PME interrupt",
        "pcie_pme 0000:00:02.0:pcie001: service driver pcie_pme loaded",
        "aer 0000:00:02.0:pcie002: service driver aer loaded",
        f"pciehp 0000:00:02.0:pcie004: Slot #1 {SLOT_FLAGS} LLActRep+",
        "pciehp 0000:00:02.0:pcie004: service driver pciehp loaded",
    ),
    "4.18": (
        "pcieport 0000:00:02.0: Signaling PME with IRQ 24",
        "aer 0000:00:02.0:pcie002: AER enabled with IRQ 24",
        f"pciehp 0000:00:02.0:pcie004: Slot #1 {SLOT_FLAGS} LLActRep+",
    ),
    "6.1": (
        "pcieport 0000:00:02.0: PME: Signaling with IRQ 24",
        "pcieport 0000:00:02.0: AER: enabled with IRQ 24",
        f"pcieport 0000:00:02.0: pciehp: Slot #1 {SLOT_FLAGS} IbPresDis- LLActRep+",
    ),
}

ASPM_OFF = boot(
    "BOOT_IMAGE=/vmlinuz root=/dev/vda1 ro quiet pcie_aspm=off",
    "PCIe ASPM is disabled",
    *refused("ExtendedConfig Segments MSI HPX-Type3"),
)
NATIVE = boot("root=/dev/vda1 ro quiet", *negotiated(), *PORT_WORDS["6.1"])
ACPI = boot(
    "root=/dev/vda1 ro quiet",
    *negotiated(lacks="PCIeHotplug LTR", got="SHPCHotplug PME AER PCIeCapability"),
    "acpiphp: Slot [0] registered",
    "acpiphp: Slot [0-2] registered",
    *PORT_WORDS["6.1"][:2],
)
I440FX = boot(
    "root=/dev/vda1 ro quiet pcie_aspm=off",
    "PCIe ASPM is disabled",
    *refused("Segments MSI HPX-Type3", hid="PNP0A03:00"),
    "acpi PNP0A03:00: fail to add MMCONFIG information, "
    "can't access extended PCI configuration space under this bridge.",
    "acpiphp: Slot [3] registered",
    "acpiphp: Slot [4] registered",
    dmi=I440FX_DMI,
)


def interrupts(*rows: str) -> str:
    """Return /proc/interrupts of two CPUs."""
    numbered = "".join(f" {24 + number}:          1          0   {row}\n" for number, row in enumerate(rows))
    return (
        "            CPU0       CPU1       \n"
        "   0:         40          0   IO-APIC   2-edge      timer\n"
        f"   9:          0          0   IO-APIC   9-fasteoi   acpi\n{numbered}"
        " NMI:          0          0   Non-maskable interrupts\n ERR:          0\n"
    )


PORT_INTERRUPT = "PCI-MSI 32768-edge      PCIe PME, aerdrv, pciehp"
DISK_INTERRUPT = "PCI-MSI 524289-edge      virtio0-req.0"


def port(
    address: str = "00:02.0",
    *,
    slot: int = 1,
    bus: int = 1,
    listens: bool = True,
    reports: bool = True,
    driver: bool = True,
) -> str:
    """Return a root port as `lspci -vvv` prints it."""
    on, told = "+" if listens else "-", "+" if reports else "-"
    return (
        f"{address} PCI bridge: Red Hat, Inc. QEMU PCIe Root port (prog-if 00 [Normal decode])\n"
        "\tControl: I/O+ Mem+ BusMaster+ SpecCycle- MemWINV- VGASnoop- ParErr- Stepping- SERR+ FastB2B- DisINTx+\n"
        f"\tBus: primary=00, secondary={bus:02x}, subordinate={bus:02x}, sec-latency=0\n"
        "\tCapabilities: [54] Express (v2) Root Port (Slot+), MSI 00\n"
        "\t\tSltCap:\tAttnBtn+ PwrCtrl+ MRL- AttnInd+ PwrInd+ HotPlug+ Surprise+\n"
        f"\t\t\tSlot #{slot}, PowerLimit 0.000W; Interlock+ NoCompl-\n"
        f"\t\tSltCtl:\tEnable: AttnBtn{on} PwrFlt- MRL- PresDet- CmdCplt{on} HPIrq{on} LinkChg-\n"
        "\t\tSltSta:\tStatus: AttnBtn- PowerFlt- MRL- CmdCplt- PresDet+ Interlock-\n"
        "\tCapabilities: [100 v2] Advanced Error Reporting\n"
        "\t\tUESta:\tDLP- SDES- TLP- FCP- CmpltTO- CmpltAbrt- UnxCmplt- RxOF- MalfTLP- ECRC- UnsupReq- ACSViol-\n"
        f"\t\tRootCmd: CERptEn{told} NFERptEn{told} FERptEn{told}\n"
        + ("\tKernel driver in use: pcieport\n" if driver else "")
        + "\n"
    )


Q35_HOST = (
    "00:00.0 Host bridge: Intel Corporation 82G33/G31/P35/P31 Express DRAM Controller\n\tSubsystem: Red Hat, Inc.\n\n"
)
I440FX_HOST = (
    "00:00.0 Host bridge: Intel Corporation 440FX - 82441FX PMC [Natoma] (rev 02)\n\tSubsystem: Red Hat, Inc. QEMU\n\n"
)


def disk(address: str = "01:00.0", *, slot: str = "", revision: str = "01") -> str:
    """Return a virtio disk as `lspci -vvv` prints it."""
    named = f"\tPhysical Slot: {slot}\n" if slot else ""
    return (
        f"{address} SCSI storage controller: Red Hat, Inc. Virtio block device (rev {revision})\n"
        f"\tSubsystem: Red Hat, Inc.\n{named}\tCapabilities: [98] MSI-X: Enable+ Count=2 Masked-\n"
        "\tKernel driver in use: virtio-pci\n\n"
    )
