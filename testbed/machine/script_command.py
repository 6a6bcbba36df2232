"""QEMU's command as a script repeats it: with sockets, disks and firmware in a folder of the script's own, `$work`."""

from __future__ import annotations

import json
import re
import shlex
from typing import TYPE_CHECKING

from testbed.machine.argv import VARIABLES
from testbed.machine.system_disk import NODE, is_system_node

if TYPE_CHECKING:
    from collections.abc import Sequence

    from testbed.machine.journal import Step
    from testbed.machine.launch import Machine

#: in a bundle: the firmware of a QEMU that was fetched
FIRMWARE = "firmware"
#: there, of a UEFI firmware: its code, and what the machine's variables begin with
UEFI_CODE, UEFI_VARIABLES = "uefi/code", "uefi/variables"
_CODE = "firmware-code"

#: what a machine with a UEFI firmware needs besides
_UEFI = r"""if [ -r "$here/{UEFI_CODE}" ]; then
  UEFI_CODE=${{UEFI_CODE:-$here/{UEFI_CODE}}} UEFI_VARIABLES=${{UEFI_VARIABLES:-$here/{UEFI_VARIABLES}}}
fi
UEFI_CODE=${{UEFI_CODE:-{code}}}
UEFI_VARIABLES=${{UEFI_VARIABLES:-{variables}}}
for file in "$UEFI_CODE" "$UEFI_VARIABLES"; do
  [ -r "$file" ] || {{ echo "reproduce.sh: cannot read $file" >&2; exit 2; }}
done
"""

#: what a machine needs besides whose disk's own user space runs: it writes to an overlay that goes when it ends
_SYSTEM = r"""SYSTEM=${{SYSTEM:-{image}}}
[ -r "$SYSTEM" ] || {{ echo "reproduce.sh: cannot read $SYSTEM" >&2; exit 2; }}
"""


def named_files(machine: Machine) -> str:
    """Return the lines that find what the machine needs besides QEMU, kernel and initramfs, by variables."""
    return _uefi(machine) + _system(machine)


def own_files(machine: Machine) -> list[str]:
    """Return the lines that make the files in `$work`."""
    lines = [f'truncate -s {disk.size_mib}M "$work/{disk.id}.raw"' for disk in machine.spec.disks if not disk.path]
    if machine.boot.firmware:
        # a copy of the code too: the script's own folder has a name that can stand in JSON
        lines.append(f'cp "$UEFI_CODE" "$work/{_CODE}"; cp "$UEFI_VARIABLES" "$work/{VARIABLES}"')
        lines.append(f'chmod u+w "$work/{VARIABLES}"')
    return lines


def command_words(machine: Machine) -> list[str]:
    """Return the words of the command, as bash reads them."""
    options = _from_its_boot(machine.argv[len(machine.qemu.command) :])
    return ['"${qemu[@]}"', *(_relocate(machine, word) for word in options), *_system_drive(machine)]


def in_work(machine: Machine, text: str) -> str:
    """Quote text, with the rundir replaced by the script's own folder, and the firmware by a copy there."""
    variables = {str(machine.rundir): '"$work"'}
    if machine.boot.firmware:
        variables[str(machine.boot.firmware.code)] = f'"$work/{_CODE}"'
    # inside JSON a quote or an umlaut of the folder's name is escaped
    variables |= {json.dumps(path)[1:-1]: variable for path, variable in variables.items()}
    parts = re.split(f"({'|'.join(map(re.escape, variables))})", text)
    return "".join(variables.get(part) or (shlex.quote(part) if part else "") for part in parts) or "''"


def files_to_add(machine: Machine, steps: Sequence[Step]) -> list[str]:
    """Return the lines that make the disks which QEMU is told to add later."""
    commands = [json.loads(step.text) for step in steps if step.kind == "qmp"]
    added = [command["arguments"] for command in commands if command["execute"] == "blockdev-add"]
    names = {str(node.get("file", {}).get("filename", "")) for node in added}
    return [f"truncate -s 16M {in_work(machine, name)}" for name in sorted(names) if str(machine.rundir) in name]


def _uefi(machine: Machine) -> str:
    """Return the lines that find the UEFI firmware, if the machine has one."""
    if machine.boot.firmware is None:
        return ""
    return _UEFI.format(
        UEFI_CODE=UEFI_CODE,
        UEFI_VARIABLES=UEFI_VARIABLES,
        code=shlex.quote(str(machine.boot.firmware.code)),
        variables=shlex.quote(str(machine.boot.firmware.variables)),
    )


def _system(machine: Machine) -> str:
    """Return the lines that find the disk whose user space runs, if it does."""
    if machine.boot.system is None:
        return ""
    return _SYSTEM.format(image=shlex.quote(str(machine.boot.system.name.file)))


def _from_its_boot(argv: Sequence[str]) -> list[str]:
    """Return the command without what made it quick: a person boots the machine and watches it in real time.

    The disk whose user space runs has a drive of its own there: the files that were open for it are the test bed's.
    """
    named = {index for index, word in enumerate(argv) if word in ("-icount", "-incoming", "-add-fd")}
    named |= {index - 1 for index, word in enumerate(argv) if word.startswith("{") and is_system_node(word)}
    left_out = named | {index + 1 for index in named}
    return [word for index, word in enumerate(argv) if index not in left_out]


def _system_drive(machine: Machine) -> list[str]:
    system = machine.boot.system
    if system is None:
        return []
    return ["-drive", f'if=none,id={NODE},snapshot=on,format={system.name.known_format()},file="${{SYSTEM//,/,,}}"']


def _relocate(machine: Machine, word: str) -> str:
    """Quote a word of the command, with sockets and disks moved to the script's own folder."""
    if word == str(machine.boot.kernel):
        return '"$KERNEL"'
    if word == str(machine.boot.initramfs):
        return '"$INITRAMFS"'
    name, separator, path = word.partition(",path=")
    if word.startswith("socket,id=") and separator:
        socket_id = name.removeprefix("socket,id=")
        return f'{name},path="$work/{path and socket_id}",server=on,wait=off'
    return in_work(machine, word)
