"""`@image` in place of a command line: the line of a boot entry of the disk image that is booted.

It is replaced as soon as a setup is read: what runs, what a bisect takes apart and what is kept is the line itself.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from testbed.image.disk.disk_name import is_disk, read_disk_name
from testbed.image.recipe import image_name
from testbed.model.errors import InputError

if TYPE_CHECKING:
    from testbed.image.source import Progress
    from testbed.model.setup import Setup

#: what is replaced
WORD = re.compile(r"@image(?::([0-9]{1,4}))?(?: (?P<rest>.*))?", re.DOTALL)


def silent(_: str) -> None:
    """Ignore progress where nobody waits for it."""


def asked_line(setup: Setup, *, by_loader: bool = False) -> re.Match[str] | None:
    """Return how a setup asks for a disk's command line, if it does; raise InputError if its guest has that anyway.

    It has where the disk's own loader boots it: by `--via console`, or because the scenario wants it (`by_loader`).
    """
    match = WORD.fullmatch(setup.cmdline)
    if match and (by_loader or setup.via == "console"):
        way = "--via console" if setup.via == "console" else "a scenario that lets the disk boot by itself"
        raise InputError(
            f"--cmdline {setup.cmdline!r} with {way}: the disk's own loader supplies its entry's line",
            hint="give only the options to be added to it: --cmdline 'pci=nomsi', or none",
        )
    return match


def with_disk_line(setup: Setup, *, by_loader: bool = False, progress: Progress = silent) -> Setup:
    """Return the setup with `@image` or `@image:NUMBER` replaced; options may follow it, and are appended to the line.

    Raises InputError if the image is not a disk, has no such entry, or is booted by its own loader.
    """
    match = asked_line(setup, by_loader=by_loader)
    if match is None:
        return setup
    name = image_name(setup.image)
    if not is_disk(name):
        raise InputError(
            f"--cmdline {setup.cmdline!r}: the image is {setup.image}, which has no boot entries",
            hint="give a disk: --image disk:FILE",
        )
    # the rest is about disks alone
    from testbed.image.disk.choice import chosen_entry, chosen_kernel, chosen_system  # noqa: PLC0415
    from testbed.image.disk.disk_store import survey_disk  # noqa: PLC0415

    disk = read_disk_name(name)
    system = chosen_system(disk, survey_disk(disk, progress=progress))
    entry = chosen_entry(disk, system, int(match[1]) if match[1] else None)
    progress(f"the command line is that of {entry.title!r} ({entry.source})")
    own, booted = system.kernel_of(entry), chosen_kernel(disk, system)
    if own and own != booted:
        progress(
            f"that entry starts {own.release}, the guest {booted.release}: for the other add ,kernel={own.release}"
        )
    return setup.model_copy(update={"cmdline": " ".join(filter(None, (entry.cmdline, match["rest"])))})
