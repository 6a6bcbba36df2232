"""A login: the user, and the password if there is one, read from a file that nobody else can read."""

from __future__ import annotations

import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from testbed.model.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

_FORM = "a line with the user; on the next the password, if there is one"
_MOST = 4096


@dataclass(frozen=True, kw_only=True)
class Login:
    """Who logs in on a console."""

    user: str
    password: str = field(default="", repr=False)


def read_login(path: Path) -> Login:
    """Return the login of a file; raise InputError, without a word of it, if it cannot be used."""
    try:
        mode = path.stat().st_mode
        with path.open("rb") as file:
            data = file.read(_MOST + 1)  # and of a device without end no more
        user, *rest = data.decode("utf-8").splitlines() or [""]
    except OSError as error:
        raise InputError(f"--login {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"--login {path}: is not UTF-8 text", hint=_FORM) from None
    if stat.S_IMODE(mode) & 0o077:
        raise InputError(f"--login {path}: other users can read or write it", hint=f"chmod 600 {path}")
    if len(rest) > 1 or len(data) > _MOST:
        raise InputError(f"--login {path}: has {1 + len(rest)} lines, {len(data)} bytes", hint=_FORM)
    password = rest[0] if rest else ""
    if user.split() != [user] or not (user + password).isprintable():
        raise InputError(f"--login {path}: has no user name, or one with blanks or control characters", hint=_FORM)
    return Login(user=user, password=password)
