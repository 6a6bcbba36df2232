"""Stages of a boot as its console tells them, and the words after which it goes no further.

The words are those of SeaBIOS 1.16, EDK II 2022.11, GRUB 2.06, initramfs-tools 0.142, dracut 059, systemd 252 and
e2fsprogs 1.47. With `quiet` a kernel and an init say little: a later stage implies those before it.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass


class BootStage(enum.IntEnum):
    """How far a boot has come, in order."""

    NOTHING = 0
    FIRMWARE = 1
    LOADER = 2
    KERNEL = 3
    INITRD = 4
    ROOT = 5
    INIT = 6
    LOGIN = 7
    SHELL = 8  #: of whoever has logged in

    @property
    def word(self) -> str:
        """Return what outcomes call it."""
        return self.name.lower()


#: what is printed once a stage is reached, each in words of bounded length: a console may print megabytes without a
#: blank, and the time of a search must not grow faster than they do. A shell's prompt may be anything, and is told by
#: its answers
STAGES: dict[BootStage, str] = {
    BootStage.FIRMWARE: r"SeaBIOS \(version |BdsDxe: |UEFI firmware \(version ",
    BootStage.LOADER: r"GRUB loading|Welcome to GRUB|GNU GRUB|Loading Linux |ISOLINUX |SYSLINUX |systemd-boot ",
    BootStage.KERNEL: r"Linux version [0-9]|EFI stub: |Decompressing Linux",
    BootStage.INITRD: r"Run /init as init process|Loading, please wait\.\.\.|Begin: Loading essential drivers|"
    r"Running in init(?:rd|ial RAM disk)|dracut(?:-cmdline)?\[[0-9]+\]: ",
    BootStage.ROOT: r"(?:EXT[234]-fs|XFS) \([^)\n]{1,64}\): (?:mounted filesystem|Ending clean mount)|"
    r"(?<![^\s:])[^\s:]{1,128}: clean, [0-9]{1,12}/[0-9]{1,12} files|Switching root",
    # systemd greets in an initrd too, and so does GRUB, in whose words SeaBIOS may move the cursor
    BootStage.INIT: r"Welcome to (?!GRUB)(?![^\n]{0,200}(?:[Ii]nitramfs|dracut|\x1b\[[0-9]{1,3};[0-9]{1,3}H))"
    r"[^\n]{1,200}!|INIT: version |OpenRC [0-9]|"
    r"systemd\[1\]: (?:Hostname set|Set hostname)",
    BootStage.LOGIN: r"(?:^|[\r\n])(?!Last )[^\s:]{1,64} login: ",
}


@dataclass(frozen=True, kw_only=True)
class BootStop:
    """Words after which a boot waits for somebody, or for ever."""

    name: str
    pattern: str
    stage: BootStage  #: the one that had been reached, whatever else was printed


STOPS = (
    BootStop(
        name="no-bootable-device",
        pattern=r"No bootable device\.|No bootable option or device was found|UEFI Interactive Shell",
        stage=BootStage.FIRMWARE,
    ),
    BootStop(name="grub-rescue", pattern=r"grub rescue> ", stage=BootStage.LOADER),
    BootStop(name="grub-prompt", pattern=r"[\r\n\x1bmHJK]grub> ", stage=BootStage.LOADER),
    BootStop(
        name="grub-error",
        pattern=r"error: [^\n]{0,200}(?:you need to load the kernel first|invalid magic number)",
        stage=BootStage.LOADER,
    ),
    BootStop(
        name="fsck",
        pattern=r"UNEXPECTED INCONSISTENCY|RUN fsck MANUALLY|requires a manual fsck|Fix<y>\?",
        stage=BootStage.INITRD,
    ),
    BootStop(name="initramfs-shell", pattern=r"\(initramfs\) |Dropping to a shell!", stage=BootStage.INITRD),
    BootStop(name="dracut-shell", pattern=r"dracut:/# |/run/initramfs/rdsosreport\.txt", stage=BootStage.INITRD),
    BootStop(
        name="emergency-mode",
        pattern=r"You are in (?:emergency|rescue) mode|Give root password for|Cannot open access to console",
        stage=BootStage.INIT,
    ),
)

#: what a terminal shows nothing of, but colours, places and modes
_CONTROL = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[()][0-9A-Za-z]|[=>78Mc])|[\x00-\x08\x0b-\x1f\x7f]")


def shown(text: str) -> str:
    """Return what a terminal would show of text, without colours and the like."""
    return _CONTROL.sub("", text)
