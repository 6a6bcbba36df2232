"""A login on a guest's console, by a user and a password that nothing keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.machine.patience import limited
from testbed.model.boot_stage import shown
from testbed.model.errors import BootError

if TYPE_CHECKING:
    from testbed.machine.launch import Machine
    from testbed.model.login import Login

_ASKED = r"[Pp]ass(?:word|wort|code|phrase)[^\n]{0,40}: ?"
#: words after which nobody is logged in: login(1), pam_unix(8), pam_securetty(8)
REFUSALS = {
    "login-incorrect": r"Login incorrect|Login timed out|Authentication failure",
    "password-expired": r"required to change your password|password (?:has )?expired|Current password: ",
}
#: a shell's, at the end of what it has printed so far
_PROMPT = r"[\r\n][^\r\n]{0,200}[#$%>] (?=\x1b|[\r\n]|\Z)"
#: what is waited for after a user or a password was typed
WORDS = (_ASKED, *REFUSALS.values(), _PROMPT)
#: seconds in which login(1) answers, slow as it may be
_SECONDS = 60.0


class LoginRefusedError(BootError):
    """Report a console that does not let its user in."""

    def __init__(self, name: str, words: str, *, evidence: str) -> None:
        super().__init__(f"login: {name}: {words}", hint="check that the --login file is the one for this image")
        self.name = name
        self.words = words
        self.evidence = evidence


async def log_in(machine: Machine, login: Login, *, start: int) -> int:
    """Answer a console's question for a login, and return a cursor behind the shell's prompt.

    The password is never in the console's log. Raises LoginRefusedError if the user is not let in, or never asked.
    """
    console = machine.console
    if login.password:
        console.conceal(login.password)
    cursor = start
    machine.journal.step("say", f"log in as {login.user}")
    await console.write(f"{login.user}\n".encode())
    try:
        async with limited(_SECONDS, machine.process.starved):
            while True:
                seen = await console.expect_first(WORDS, start=cursor)
                cursor = seen.end
                if seen.index == len(WORDS) - 1:
                    return cursor
                if seen.index:
                    name = list(REFUSALS)[seen.index - 1]
                    raise LoginRefusedError(name, shown(console.line_at(seen.start)).strip(), evidence=seen.evidence)
                if not login.password:
                    why = "it asks for a password, but the --login file has none"
                    raise LoginRefusedError("password-wanted", why, evidence=seen.evidence)
                await console.write(f"{login.password}\n".encode())
    except TimeoutError:
        last = shown(console.tail()).strip().rpartition("\n")[2]
        why = f"none within {_SECONDS:.0f} s, but {last!r}"
        raise LoginRefusedError("no-prompt", why, evidence="console.log") from None
