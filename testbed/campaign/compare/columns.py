"""The columns of a comparison: every combination of what was given more than once, and what to call each."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from testbed.campaign.disk_line import silent
from testbed.campaign.setups import NamedSetup, completed
from testbed.model.comparison import Column
from testbed.model.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from testbed.image.source import Progress


@dataclass(frozen=True, kw_only=True)
class Choices:
    """What may be given more than once; each has at least one value."""

    machines: Sequence[NamedSetup]
    cmdlines: Sequence[str]
    images: Sequence[str]
    qemus: Sequence[str]


def make_columns(axes: Choices, *, by_loader: bool = False, progress: Progress = silent) -> list[Column]:
    """Return a column for each combination, labelled with what differs; raise InputError if there is only one."""
    values = (axes.machines, axes.cmdlines, axes.images, axes.qemus)
    varying = [len(each) > 1 for each in values]
    labels, setups = [], []
    for machine, cmdline, image, qemu in itertools.product(*values):
        words = (machine.label, cmdline or "(no command line)", image or "debian", qemu or "default QEMU")
        differing = [word for word, varies in zip(words, varying, strict=True) if varies]
        labels.append(", ".join(differing) or machine.label)
        given = {"cmdline": cmdline, "image": image, "qemu": qemu}
        setups.append(completed(machine.setup, by_loader=by_loader, progress=progress, **given))
    if len(setups) < 2:
        raise InputError(
            f"compare: there is nothing to compare {labels[0]} with",
            hint="give --machine, --cmdline, --image or --qemu twice, or a pattern: --machine 'pc-q35-*'",
        )
    return [Column.of(setup, label) for label, setup in zip(_unique(labels), setups, strict=True)]


def _unique(labels: Sequence[str]) -> list[str]:
    """Return the labels, those that were there before with their number: one machine may be compared with itself."""
    seen: Counter[str] = Counter()
    unique = []
    for label in labels:
        seen[label] += 1
        unique.append(f"{label} ({seen[label]})" if seen[label] > 1 else label)
    return unique
