"""The guest's files, many at once: what stands in sysfs and /proc, read by its init without starting a program."""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatch
from typing import TYPE_CHECKING

from testbed.guest.frames import MAX_PAYLOAD
from testbed.model.errors import BrokenError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from testbed.guest.guest import Guest
    from testbed.guest.shell import Shell

#: bytes of patterns in one request, beside the verb's own name
_REQUEST = MAX_PAYLOAD - 16
#: patterns in one request: the guest's init takes 63 words, and leaves out what is more (guest-images/init.c, on_run)
_MOST_PATTERNS = 60


@dataclass(frozen=True, kw_only=True)
class Shown:
    """Files and symbolic links of the guest, as they were at one moment."""

    files: dict[str, bytes] = field(default_factory=dict)  #: path to content
    links: dict[str, str] = field(default_factory=dict)  #: path to target
    evidence: str  #: the answer's line in shell.jsonl

    def text(self, path: str) -> str:
        """Return a file's text without blanks around it; empty if there is no such file."""
        return self.files.get(path, b"").decode("utf-8", "replace").strip()

    def matching(self, pattern: str) -> list[str]:
        """Return the paths of files and links that match a pattern."""
        return [path for path in (*self.files, *self.links) if fnmatch(path, pattern)]


async def show(guest: Guest, *patterns: str) -> Shown:
    """Read every file and link that matches one of the shell patterns; what cannot be read is left out."""
    return await shown_by(guest.shell, *patterns)


async def shown_by(shell: Shell, *patterns: str) -> Shown:
    """Do the same where there is but a shell; more patterns than one request holds are read in several."""
    files: dict[str, bytes] = {}
    links: dict[str, str] = {}
    evidence = ""
    for some in requests(patterns):
        result = await shell.run_verb("show", *some)
        try:
            more_files, more_links = parse_shown(result.stdout)
        except (ValueError, IndexError):
            raise BrokenError(f"guest shell: show {' '.join(some)}: the answer is malformed") from None
        files |= more_files
        links |= more_links
        evidence = result.evidence
    return Shown(files=files, links=links, evidence=evidence)


def requests(patterns: Sequence[str]) -> Iterator[list[str]]:
    """Yield the patterns in groups that fit into a request each."""
    group: list[str] = []
    room = _REQUEST
    for pattern in patterns:
        size = len(pattern.encode()) + 1
        if group and (size > room or len(group) == _MOST_PATTERNS):
            yield group
            group, room = [], _REQUEST
        group.append(pattern)
        room -= size
    yield group


def parse_shown(output: bytes) -> tuple[dict[str, bytes], dict[str, str]]:
    """Return files and links from what the verb `show` prints; raise ValueError or IndexError if it is damaged."""
    files, links, at = {}, {}, 0
    while at < len(output):
        end = output.index(b"\n", at)
        kind, path, rest = output[at:end].decode("utf-8", "surrogateescape").split(" ", 2)
        at = end + 1
        if kind == "link":
            links[path] = rest
            continue
        size = int(rest)
        if kind != "file" or size < 0 or output[at + size : at + size + 1] != b"\n":
            raise ValueError(f"no file entry: {kind}")
        files[path] = output[at : at + size]
        at += size + 1
    return files, links
