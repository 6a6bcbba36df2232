"""Which machine types start an ELF kernel."""

from __future__ import annotations

import pytest

from testbed.machine.pvh import starts_elf


@pytest.mark.parametrize(
    ("machine_type", "starts"),
    [
        ("q35", True),
        ("pc", True),
        ("pc-q35-3.1", False),
        ("pc-q35-4.0", True),
        ("pc-q35-4.0.1", True),
        ("pc-i440fx-2.12", False),
        ("pc-i440fx-10.0", True),
        ("microvm", True),
    ],
)
def test_machine_types_before_4_0_need_a_bzimage(machine_type: str, starts: bool) -> None:
    assert starts_elf(machine_type) is starts
