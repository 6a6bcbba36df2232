"""What each device model, by each route, makes of every AER error: the table of docs/aer.md.

python -m tests.benchmarks.injections [--qemu NAME] [--image NAME] [--json FOLDER]

Boots a guest for each model and route, and another where an error has killed the device: ten minutes and more.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: marks of a table's cell
_MARKS = {"injected": "yes", "masked": "masked", "not-reported": "silent", "refused": "refused"}


@dataclass(frozen=True, kw_only=True)
class Model:
    """A device model, in a machine and by an id."""

    name: str
    arguments: tuple[str, ...]
    routes: tuple[str, ...] = ("qemu", "guest")


def _on_q35(name: str, device: str, *parameters: str) -> Model:
    words = [word for parameter in ("hotplug=native", *parameters) for word in ("-p", parameter)]
    return Model(name=name, arguments=("q35", "--device", device, *words))


MODELS = (
    _on_q35("pcie-root-port", "rp1", "devices=e1000e"),
    _on_q35("x3130-upstream", "sw1", "topology=switch", "devices=e1000e"),
    _on_q35("xio3130-downstream", "sw1p1", "topology=switch", "devices=e1000e"),
    _on_q35("virtio-blk-pci,aer=on", "dev1", "devices=virtio-blk", "globals=virtio-blk-pci.aer=on"),
    _on_q35("e1000e", "dev1", "devices=e1000e"),
    Model(name="igb", arguments=("sriov", "--device", "dev1")),
    Model(name="igb's VF", arguments=("sriov", "--device", "dev1", "--vf", "0"), routes=("guest",)),
)


def _inject(model: Model, route: str, further: list[str]) -> list[dict[str, Any]] | None:
    """Return what became of every error; None if this QEMU lacks the model."""
    with tempfile.TemporaryDirectory(prefix="injections-") as folder:
        command = [sys.executable, "-m", "testbed", "inject", *model.arguments, "--route", route, "--all", "--json"]
        result = subprocess.run([*command, "--rundir", folder, *further], capture_output=True, text=True, check=False)
    if result.returncode > 1:
        sys.stderr.write(f"{model.name} by {route}: {result.stderr.strip().splitlines()[-1]}\n")
        return None
    injections: list[dict[str, Any]] = json.loads(result.stdout)["injections"]
    return injections


def table(columns: dict[str, list[dict[str, Any]]]) -> str:
    """Return a Markdown table: a row for all errors that fare the same, a column for each model and route."""
    rows: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for index, first in enumerate(next(iter(columns.values()))):
        cells = (first["severity"], *(_MARKS[column[index]["verdict"]] for column in columns.values()))
        rows[cells].append(first["errors"][0]["qemu"] or first["errors"][0]["kernel"])
    head = ["errors", "severity", *columns]
    lines = [head, ["---"] * len(head)]
    lines += [[" ".join(names), *cells] for cells, names in rows.items()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    """Inject everything everywhere and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--qemu", default="")
    parser.add_argument("--image", default="debian")
    parser.add_argument("--json", type=Path, help="keep what was seen in this folder")
    arguments = parser.parse_args()
    further = ["--image", arguments.image, *(["--qemu", arguments.qemu] if arguments.qemu else [])]
    columns: dict[str, list[dict[str, Any]]] = {}
    for model in MODELS:
        for route in model.routes:
            seen = _inject(model, route, further)
            if seen is not None:
                columns[f"{model.name} ({route})"] = seen
                if arguments.json:
                    (arguments.json / f"{model.name}-{route}.json").write_text(json.dumps(seen, indent=1))
    sys.stdout.write(table(columns) + "\n")


if __name__ == "__main__":
    main()
