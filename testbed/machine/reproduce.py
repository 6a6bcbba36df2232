"""reproduce.sh: the same machine and the same steps, with nothing but QEMU, the image and socat."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from testbed.machine.reproduce_by_hand import by_hand
from testbed.machine.script_command import FIRMWARE, command_words, files_to_add, in_work, named_files, own_files

if TYPE_CHECKING:
    from collections.abc import Sequence

    from testbed.machine.journal import Step
    from testbed.machine.launch import Machine

FILE = "reproduce.sh"
#: what stands beside it in a bundle
KERNEL, INITRAMFS = "image/kernel", "image/initramfs"

_HEAD = r"""#!/bin/bash
# {title}
#
# Starts the same machine, repeats what was done to it and shows the answers. Needs: QEMU, socat, and the image below.
# Set QEMU=, KERNEL= or INITRAMFS= to use other files; inside a bundle, the bundle's files are the default.
set -u
here=$(cd "$(dirname "${{BASH_SOURCE[0]:-.}}")" && pwd)
if [ -n "${{QEMU:-}}" ]; then qemu=("$QEMU"); else qemu=({command}); fi
if [ -r "$here/{KERNEL}" ]; then
  KERNEL=${{KERNEL:-$here/{KERNEL}}} INITRAMFS=${{INITRAMFS:-$here/{INITRAMFS}}}
  if [ -z "${{QEMU:-}}" ] && ! [ -x {qemu} ]; then
    QEMU=qemu-system-x86_64 qemu=(qemu-system-x86_64)
    if [ -d "$here/{FIRMWARE}" ]; then qemu+=(-L "$here/{FIRMWARE}"); fi
  fi
fi
QEMU=${{QEMU:-{qemu}}}
KERNEL=${{KERNEL:-{kernel}}}
INITRAMFS=${{INITRAMFS:-{initramfs}}}
for program in "$QEMU" socat; do
  command -v "$program" >/dev/null || {{ echo "reproduce.sh: $program is missing" >&2; exit 2; }}
done
for file in "$KERNEL" "$INITRAMFS"; do
  [ -r "$file" ] || {{ echo "reproduce.sh: cannot read $file" >&2; exit 2; }}
done
{needs}work=$(mktemp -d); pids=
trap 'kill $pids 2>/dev/null; wait 2>/dev/null; rm -rf "$work"' EXIT
"""

_PLUMBING = r"""
# QMP: one connection that stays, for commands and events alike
mkfifo "$work/qmp.in" "$work/shell.in"
for n in $(seq 100); do [ -S "$work/qmp" ] && [ -S "$work/shell" ] && break; sleep 0.1; done
socat -u "$work/console" - > "$work/console.log" & pids="$pids $!"
socat - "$work/qmp" < "$work/qmp.in" > "$work/qmp.log" & pids="$pids $!"
exec 3> "$work/qmp.in"
socat - "$work/shell" < "$work/shell.in" > "$work/shell.log" & pids="$pids $!"
exec 4> "$work/shell.in"
commands=0
qmp() {
  echo "qmp   > $1"
  printf '%s\n' "$1" >&3; sleep 0.5
  tail -n +"$((qmp_seen + 1))" "$work/qmp.log" | tr -d '\r' | grep -v '"QMP"' | sed 's/^/qmp   < /'
  qmp_seen=$(wc -l < "$work/qmp.log")
}
qmp_seen=0
answered() {  # wait up to $2 seconds for the mark $1
  for n in $(seq "$(($2 * 10))"); do grep -aq "$1" "$work/shell.log" && return; sleep 0.1; done
  echo "reproduce.sh: the guest did not answer within $2 s" >&2; exit 1
}
booted() {  # wait for the guest's hello of boot number $1, and ask it for a plain shell
  for n in $(seq 1200); do [ "$(grep -ac 'TB1H' "$work/shell.log")" -ge "$1" ] && break; sleep 0.1; done
  printf 'plain\n' >&4
  for n in $(seq 600); do [ "$(grep -ac '^plain' "$work/shell.log")" -ge "$1" ] && return; sleep 0.1; done
  echo "reproduce.sh: the guest did not boot; its console:" >&2
  tail "$work/console.log" >&2
  exit 1
}
asleep() {  # wait until the guest has gone to sleep for the time number $1
  for n in $(seq 600); do [ "$(grep -c '"SUSPEND"' "$work/qmp.log")" -ge "$1" ] && return; sleep 0.1; done
  echo "reproduce.sh: the guest did not go to sleep" >&2; exit 1
}
guest() {
  echo "guest > $1"
  commands=$((commands + 1))
  printf '%s\n' "{ $1; } 2>&1 | sed 's/^/@$commands@ /'; echo @end$commands@" >&4
  answered "^@end$commands@" 120
  grep -a "^@$commands@ " "$work/shell.log" | sed 's/^@[0-9]*@/guest </'
}
"""

_START = r"""
echo "the machine starts $KERNEL; a boot without KVM takes a few seconds"
qmp '{"execute": "qmp_capabilities"}'
qmp '{"execute": "cont"}'
booted 1
"""

_END = r"""
sleep 1
qmp '{"execute": "query-status"}'
"""


def reproduction(machine: Machine, steps: Sequence[Step], *, title: str) -> str:
    """Return the script that repeats `steps` on the same machine and shows what the guest answers.

    Where the guest has its console alone, the script starts the machine, and a person repeats them.
    """
    if machine.boot.by_loader:
        return by_hand(machine, steps, title=title)
    head = _HEAD.format(
        title=title,
        KERNEL=KERNEL,
        INITRAMFS=INITRAMFS,
        FIRMWARE=FIRMWARE,
        qemu=shlex.quote(str(machine.qemu.path)),
        command=shlex.join(machine.qemu.command),
        kernel=shlex.quote(str(machine.boot.kernel)),
        initramfs=shlex.quote(str(machine.boot.initramfs)),
        needs=named_files(machine),
    )
    lines = _lines(machine, steps)
    return "\n".join(
        (head, *own_files(machine), _command(machine), _PLUMBING, _START, *lines, _END, _verdict(title), "")
    )


def write_reproduction(machine: Machine, *, title: str) -> None:
    """Write reproduce.sh into the rundir: what has been done to the machine so far, with the QEMU it began in."""
    script = machine.rundir / FILE
    script.write_text(reproduction(machine.origin or machine, machine.journal.steps, title=title.replace("\n", " ")))
    script.chmod(0o755)


def _command(machine: Machine) -> str:
    return " \\\n  ".join(command_words(machine)) + ' &\npids="$pids $!"'


def _lines(machine: Machine, steps: Sequence[Step]) -> list[str]:
    lines, boots, sleeps = [], 1, 0
    for step in steps:
        if step.kind == "say":
            lines.append(f"echo {shlex.quote('--- ' + step.text)}")
        elif step.kind == "boot":
            boots += 1
            lines.append(f"booted {boots}")
        elif step.kind == "asleep":
            sleeps += 1
            lines.append(f"asleep {sleeps}")
        elif step.kind == "guest":
            lines.append(f"guest {shlex.quote(step.text)}")
        elif '"cont"' not in step.text:
            lines.append(f"qmp {in_work(machine, step.text)}")
    return [*files_to_add(machine, steps), *lines]


def _verdict(title: str) -> str:
    return f"echo {shlex.quote('--- the test bed said: ' + title)}"
