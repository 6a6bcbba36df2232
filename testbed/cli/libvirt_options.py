"""What `testbed render --from-libvirt` prints: the commands that recreate each domain, and what became of its parts."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from testbed.machine.libvirt import recreate
from testbed.machine.libvirt_domain import LibvirtDomain
from testbed.machine.libvirt_fit import fit

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from testbed.machine.libvirt import Remark
    from testbed.machine.libvirt_fit import Fit


def libvirt_options(path: Path) -> Iterator[str]:
    """Return the lines to print; they can be pasted as a whole, what is no command being comments."""
    domains = LibvirtDomain.read(path)
    for number, domain in enumerate(domains, start=1):
        if len(domains) > 1:
            name = " ".join(domain.name.split()) or "without a name"
            yield f"# domain {number} of {len(domains)}: {name}, line {domain.root.line}"
        yield from _domain_lines(domain, path)


def _domain_lines(domain: LibvirtDomain, path: Path) -> Iterator[str]:
    fitted = fit(recreate(domain))
    machine = fitted.machine
    qemu = ["--qemu", fitted.qemu] if fitted.qemu else []
    yield shlex.join(["testbed", "render", machine.template, *qemu, *machine.options()])
    if fitted.scenario:
        options = machine.options(**fitted.size)
        yield shlex.join(["testbed", "run", fitted.scenario, "--machine", machine.template, *qemu, *options])
    yield from (f"# {words}" for words in _host_words(fitted))
    yield from _remarks(f"taken from {path}:", machine.kept)
    yield from _remarks("left out:", machine.left_out)


def _host_words(fitted: Fit) -> Iterator[str]:
    """Yield what this host makes of it."""
    yield from fitted.differences
    if fitted.size:
        size = ", ".join(f"{name}={value}" for name, value in fitted.size.items())
        yield f"the run has {size}, all that this host has room for; no slot depends on it"
    if not fitted.scenario:
        yield "nothing to run: the machine has no disk or card that can be unplugged, and no free slot"


def _remarks(head: str, remarks: Sequence[Remark]) -> Iterator[str]:
    if remarks:
        yield f"# {head}"
    for remark in remarks:
        yield f"#   line {remark.line}: {' '.join(remark.words.split())}"
