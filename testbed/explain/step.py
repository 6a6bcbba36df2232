"""What to try next: commands to paste, on the test bed and on the customer's machine."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from testbed.explain.holder import Holder
from testbed.explain.resources import vfs_refused
from testbed.explain.service import HOTPLUG
from testbed.explain.suspect import NATIVE, NO_ACPI, Blame, without

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from testbed.explain.evidence import Evidence
    from testbed.explain.holder import Control
    from testbed.explain.suspect import Suspect


@dataclass(frozen=True, kw_only=True)
class Step:
    """One thing to do."""

    why: str
    command: str = ""  #: to be pasted; empty where there is none


def next_steps(evidence: Evidence, controls: Sequence[Control], suspects: Sequence[Suspect]) -> tuple[Step, ...]:
    """Return what to try, the cheapest first."""
    return (
        *_on_the_bed(evidence, controls, suspects),
        *_on_the_machine(evidence, suspects),
        *_still_wanted(evidence, controls),
    )


def _on_the_bed(evidence: Evidence, controls: Sequence[Control], suspects: Sequence[Suspect]) -> Iterator[Step]:
    options = [suspect for suspect in suspects if suspect.blame is Blame.OPTION and HOTPLUG.name in suspect.takes]
    if not options:
        return
    names = [suspect.name for suspect in options]
    scenario = "disk-present" if names == [NATIVE] else "disk-unplug"
    machine = f"{scenario} --machine q35 -p hotplug={_mode(controls, names)}"
    alone = shlex.quote(" ".join(names))
    yield Step(why="see whether the suspect alone does it", command=f"testbed run {machine} --cmdline {alone}")
    if evidence.cmdline and len(evidence.cmdline.options) > len(names):
        line = shlex.quote(evidence.cmdline.text)
        why = "find every option of the whole line that does it, each proven, and the line that works"
        yield Step(why=why, command=f"testbed bisect {machine} --cmdline {line}")


def _mode(controls: Sequence[Control], names: Sequence[str]) -> str:
    """Return how the template's ports are served on a machine like the customer's."""
    kept = any(control.service == HOTPLUG.name and "keeps" in control.why for control in controls)
    return "acpi" if kept or NATIVE in names else "native"


def _on_the_machine(evidence: Evidence, suspects: Sequence[Suspect]) -> Iterator[Step]:
    names = [suspect.name for suspect in suspects if suspect.blame is Blame.OPTION]
    if names and evidence.cmdline:
        rest = without(evidence.cmdline, names)
        yield Step(why=f"boot the machine once without {' '.join(names)}, on this command line", command=rest)
    elif names:
        yield Step(why=f"boot the machine once without {' '.join(names)}")
    if any(name in ("pcie_aspm=off", "pci=nomsi", "pci=nommconf", "pci=conf1") for name in names):
        yield Step(why=f"if the option must stay, add {NATIVE}: a remedy where the platform does not keep the slots")
        yield Step(
            why="until then, release DEVICE without a reboot, once nothing uses it; PORT is the one before it in "
            "readlink /sys/bus/pci/devices/DEVICE",
            command="echo 1 > /sys/bus/pci/devices/DEVICE/remove && setpci -s PORT CAP_EXP+18.w=0700:0700",
        )
    for function in vfs_refused(evidence):
        why = "see what else this host needs to pass a VF through; add lsmod and lspci -vvv"
        yield Step(why=why, command=f"testbed explain dmesg.txt lspci.txt lsmod.txt --passthrough {function}")
    for suspect in suspects:
        if suspect.blame is Blame.FIRMWARE:
            yield Step(why=f"{suspect.name}: look for a firmware update; {NATIVE} shows whether the rest works")
        elif suspect.blame is Blame.KERNEL:
            yield Step(
                why=f"{suspect.name}: check the kernel's configuration",
                command="grep -E 'PCIEPORTBUS|HOTPLUG_PCI|PCIEAER|PCIEASPM|PCI_MSI|PCIE_PME' /boot/config-$(uname -r)",
            )


def _still_wanted(evidence: Evidence, controls: Sequence[Control]) -> Iterator[Step]:
    undecided = any(control.holder is Holder.UNKNOWN for control in controls)
    without_acpi = bool(evidence.without_acpi) or any(evidence.has(name) for name in NO_ACPI)
    if evidence.log is None or (not evidence.bridges and not without_acpi):
        yield Step(
            why="the kernel's boot messages are missing", command="journalctl -k -b -o short-monotonic > dmesg.txt"
        )
    if evidence.cmdline is None:
        yield Step(why="the command line is missing", command="cat /proc/cmdline > cmdline.txt")
    if undecided and evidence.interrupts is None:
        yield Step(why="the interrupts are missing", command="cat /proc/interrupts > interrupts.txt")
    if undecided and (evidence.pci is None or not any(each.is_verbose for each in evidence.pci.functions)):
        yield Step(why="the ports' registers are missing", command="sudo lspci -vvv > lspci.txt")
