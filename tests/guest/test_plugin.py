"""The pytest plugin in somebody else's test suite: verdicts in pytest's words, one guest a module."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest_plugins = ["pytester"]

SETTINGS = "[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\n"

TESTS = """
import pytest

async def test_good(testbed_run):
    outcome = await testbed_run("disk-unplug", machine="i440fx")
    assert outcome.outcome == "deleted"

async def test_bad(testbed_run):
    await testbed_run("disk-unplug", parameters={"hotplug": "native"}, cmdline="pcie_aspm=off")

async def test_expected_bad(testbed_run):
    cell = {"parameters": {"hotplug": "native"}, "cmdline": "pcie_aspm=off"}
    await testbed_run("disk-unplug", **cell, expected="bad")

async def test_skip(testbed_run):
    await testbed_run("disk-unplug", parameters={"devices": []})

async def test_broken(testbed_boot):
    async with testbed_boot(cmdline="initcall_blacklist=populate_rootfs") as guest:
        await guest.shell.succeed("false")

@pytest.mark.testbed_needs(device="no-such-device")
async def test_needs(testbed_boot):
    raise AssertionError("is skipped before this")
"""

MODULE = """
import pytest

pytestmark = pytest.mark.testbed("i440fx", parameters={"cpus": 2})
seen = []

@pytest.mark.parametrize("n", range(3))
async def test_one_guest(testbed_guest, n):
    seen.append(await testbed_guest.shell.succeed("cat /proc/sys/kernel/random/boot_id"))
    assert await testbed_guest.shell.succeed("nproc") == "2"

def test_it_was_the_same():
    assert len(seen) == 3 and len(set(seen)) == 1
"""


@pytest.mark.seconds(25)
def test_verdicts_become_pytests_own(pytester: pytest.Pytester) -> None:
    pytester.makeini(SETTINGS)
    pytester.makepyfile(TESTS)
    result = pytester.runpytest_subprocess("-ra")
    result.assert_outcomes(passed=2, failed=1, skipped=2, errors=1)
    text = result.stdout.str()
    assert "guest sysfs: expected 0000:01:00.0 gone; observed still there after 30 s [shell.jsonl:" in text
    assert "logs: " in text
    assert "no cold-plugged disk" in text
    assert "has no device no-such-device" in text


@pytest.mark.extended
@pytest.mark.seconds(10)
def test_a_module_shares_a_guest(pytester: pytest.Pytester) -> None:
    pytester.makeini(SETTINGS)
    pytester.makepyfile(MODULE)
    pytester.runpytest_subprocess().assert_outcomes(passed=4)


def test_nothing_heavy_is_imported_at_load() -> None:
    heavy = ("qemu", "pydantic", "rich", "jinja2")
    look = f"import testbed.pytest_plugin, sys; print([name for name in {heavy} if name in sys.modules])"
    told = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"
