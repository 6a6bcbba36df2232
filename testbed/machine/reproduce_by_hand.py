"""reproduce.sh of a guest that its disk's own loader boots: QEMU with the guest's console on the terminal.

Nobody but a person can answer there, so the script says what was typed, and what QEMU was told. It knows no password.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from testbed.machine.script_command import FIRMWARE, command_words, files_to_add, in_work, named_files, own_files

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from testbed.machine.journal import Step
    from testbed.machine.launch import Machine

_SCRIPT = r"""#!/bin/bash
# {title}
#
# Starts the same machine with its console on this terminal, and says what was done there. Needs: QEMU, the disk image
# below, and socat for what QEMU is told. Set QEMU= or SYSTEM= to use other files.
set -u
here=$(cd "$(dirname "${{BASH_SOURCE[0]:-.}}")" && pwd)
if [ -n "${{QEMU:-}}" ]; then qemu=("$QEMU"); else qemu=({command}); fi
if [ -z "${{QEMU:-}}" ] && ! [ -x {qemu} ]; then
  qemu=(qemu-system-x86_64)
  if [ -d "$here/{FIRMWARE}" ]; then qemu+=(-L "$here/{FIRMWARE}"); fi
fi
command -v "${{qemu[0]}}" >/dev/null || {{ echo "reproduce.sh: ${{qemu[0]}} is missing" >&2; exit 2; }}
{needs}work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
{files}
cat > "$work/tell" <<'END'
#!/bin/sh
printf '{{"execute": "qmp_capabilities"}}\n%s\n' "$1" | socat -t 3 - "UNIX-CONNECT:${{0%/*}}/qmp"
END
chmod +x "$work/tell"
say() {{ printf -- '--- %s\n' "$1"; }}
guest() {{ printf '%s\n' "$1" | sed '1s/^/guest > /; 2,$s/^/      > /'; }}
qmp() {{ printf 'qmp   > %q %q\n' "$work/tell" "$1"; }}

say 'the console is this terminal; Ctrl-a x ends QEMU, Ctrl-a Ctrl-a types Ctrl-a'
say 'type what stands behind guest, and run in another terminal what stands behind qmp:'
{steps}
say {verdict}
if [ -t 0 ]; then read -r -p '--- Enter starts the machine' _; fi
{qemu_command}
"""

#: what a socket is where the console goes
_CONSOLE = "socket,id=console,"
_TERMINAL = "stdio,id=console,mux=on,signal=off"


def by_hand(machine: Machine, steps: Sequence[Step], *, title: str) -> str:
    """Return the script that starts the machine and says what was done to it."""
    return _SCRIPT.format(
        title=title,
        command=shlex.join(machine.qemu.command),
        qemu=shlex.quote(str(machine.qemu.path)),
        FIRMWARE=FIRMWARE,
        needs=named_files(machine),
        files="\n".join([*own_files(machine), *files_to_add(machine, steps)]),
        steps="\n".join(_lines(machine, steps)),
        verdict=shlex.quote(f"the test bed said: {title}"),
        qemu_command=" \\\n  ".join(_at_terminal(command_words(machine))),
    )


def _at_terminal(words: Sequence[str]) -> list[str]:
    """Return a command whose console is the terminal, and which waits for nobody."""
    return [_TERMINAL if word.startswith(_CONSOLE) else word for word in words if word != "-S"]


def _lines(machine: Machine, steps: Sequence[Step]) -> Iterator[str]:
    for step in steps:
        if step.kind == "qmp" and '"cont"' not in step.text:
            yield f"qmp {in_work(machine, step.text)}"
        elif step.kind == "guest":
            yield f"guest {shlex.quote(step.text)}"
        elif step.kind != "qmp":
            words = {"boot": "the guest boots again", "asleep": "the guest goes to sleep"}.get(step.kind, step.text)
            yield f"say {shlex.quote(words)}"
