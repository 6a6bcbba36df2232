"""Coverage-guided fuzzing of every reader: `python -m tests.faults.fuzz MINUTES [NAME...]`, or `make fuzz`.

Atheris (libFuzzer for Python) watches which branches of the test bed an input takes, keeps those that take new ones in
`.fuzz/NAME`, and stops at an error that is no error of the project's own, at an input that takes ten seconds, and at
2 GB of memory. Each reader has a process of its own and its share of the time. Exits with 1 if anything was found.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

KEPT = Path(".fuzz")
_LONGEST = 4096
_SLOWEST = 10
_MEMORY_MIB = 2048
_RUNS = re.compile(rb"Done (\d+) (?:runs )?in|stat::number_of_executed_units:\s+(\d+)")


def main(arguments: list[str]) -> int:
    """Fuzz the readers one after the other; return the exit status."""
    from tests.faults.all_targets import TARGETS

    minutes, *names = arguments
    chosen = names or list(TARGETS)
    seconds = max(1, round(float(minutes) * 60 / len(chosen)))
    runs, found = 0, []
    for name in chosen:
        done, words = _fuzzed(name, seconds, TARGETS[name].seeds())
        runs += done
        print(f"{name}: {done} inputs in {seconds} s{', FOUND ' + words if words else ''}", flush=True)
        found += [name] if words else []
    print(f"{runs} inputs, {len(chosen)} readers, {len(found)} with finds: {', '.join(found) or 'none'}")
    return 1 if found else 0


def _fuzzed(name: str, seconds: int, seeds: list[bytes]) -> tuple[int, str]:
    """Return how many inputs one reader was given, and what was found."""
    folder = KEPT / name
    folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds):
        (folder / f"seed-{number}").write_bytes(seed)
    limits = [f"-max_total_time={seconds}", f"-timeout={_SLOWEST}", f"-rss_limit_mb={_MEMORY_MIB}"]
    options = [f"-max_len={max(_LONGEST, *map(len, seeds))}", "-print_final_stats=1", f"-artifact_prefix={folder}-"]
    ended = subprocess.run(
        [sys.executable, "-m", "tests.faults.fuzz", "--one", name, str(folder), *limits, *options],
        capture_output=True,
        check=False,
    )
    (KEPT / f"{name}.log").write_bytes(ended.stdout + ended.stderr)
    counts = [int(first or second) for first, second in _RUNS.findall(ended.stderr)]
    return max(counts, default=0), "" if ended.returncode == 0 else f"something: see {KEPT / name}.log"


def _one(name: str, options: list[str]) -> None:
    """Fuzz one reader in this process; libFuzzer ends it."""
    import atheris

    with atheris.instrument_imports(include=["testbed", "yaml"]):
        from tests.faults.all_targets import TARGETS

    take = TARGETS[name].take
    atheris.Setup([sys.argv[0], *options], lambda data: take(data) and None)
    atheris.Fuzz()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        _one(sys.argv[2], sys.argv[3:])
    else:
        sys.exit(main(sys.argv[1:]))
