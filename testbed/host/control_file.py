"""A Debian package's control file: its fields, and the packages it depends on (deb-control(5))."""

from __future__ import annotations

import re


def read_fields(text: str) -> dict[str, str]:
    """Return the one-line fields of the first record of a control file."""
    return dict(re.findall(r"^([A-Za-z-]+): (.*)", text.partition("\n\n")[0], flags=re.MULTILINE))


def dependencies(field: str) -> tuple[str, ...]:
    """Return the names in a Depends field such as `kmod, a (>= 2) | b`: the first of each alternative."""
    alternatives = (part.split("|")[0].split() for part in field.split(","))
    return tuple(words[0].split(":")[0] for words in alternatives if words)
