"""The configuration space that the test bed serves: its capabilities, and a reset during which nothing answers."""

from __future__ import annotations

import math

import pytest

from testbed.machine.played_config import Msix, PlayedConfig
from testbed.machine.proxy_message import ConfigAccess
from testbed.model.config_space import ConfigSpace

CONTROL, LINE, INITIATE_FLR = 0x48, 0x3C, 0x8000


def read(config: PlayedConfig, address: int, width: int) -> int:
    return config.read(ConfigAccess(address=address, value=0, width=width))


def space(config: PlayedConfig) -> ConfigSpace:
    return ConfigSpace(bytes(read(config, at, 1) for at in range(256)))


def test_capabilities_are_in_the_list_only_if_asked_for() -> None:
    assert read(PlayedConfig(), 0x34, 1) == 0
    both = PlayedConfig(flr_seconds=0, msix=Msix(vectors=2, table=0x40, pending=0x50))
    first = read(both, 0x34, 1)
    second = read(both, first + 1, 1)
    assert [read(both, at, 1) for at in (first, second)] == [0x10, 0x11]
    assert read(both, second + 1, 1) == 0
    assert (read(both, second + 2, 2), read(both, second + 4, 4), read(both, second + 8, 4)) == (1, 0x40, 0x50)


@pytest.mark.parametrize(("seconds", "absent"), [(math.inf, True), (0, False)])
def test_all_ones_are_read_until_a_reset_has_ended(seconds: float, absent: bool) -> None:
    config = PlayedConfig(flr_seconds=seconds)
    config.write(ConfigAccess(address=CONTROL, value=INITIATE_FLR, width=2))
    assert space(config).is_absent is absent
    assert (config.resets, config.unanswered) == (1, 256 if absent else 0)


def test_what_is_written_during_a_reset_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("testbed.machine.played_config.time.monotonic", lambda: now)
    config = PlayedConfig(flr_seconds=3)
    config.write(ConfigAccess(address=CONTROL, value=INITIATE_FLR | 0x10, width=2))
    config.write(ConfigAccess(address=LINE, value=7, width=1))
    now = 103.5
    # and the bit that began the reset does not read as set
    assert (read(config, LINE, 1), read(config, CONTROL, 2)) == (0, 0x10)
    config.write(ConfigAccess(address=LINE, value=7, width=1))
    assert read(config, LINE, 1) == 7
