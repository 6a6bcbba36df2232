"""What every test stands on: the signals of a command that a person starts, and one name in every worker."""

from __future__ import annotations

import signal

from hypothesis import settings

# no test measures time: on a busy host an example takes as long as it takes
settings.register_profile("testbed", deadline=None, max_examples=30)
settings.register_profile("deep", deadline=None)
settings.load_profile("testbed")


def pytest_configure() -> None:
    """Hear SIGINT even where the tests run in the background of a script, whose commands ignore it and pass that on."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name bytes by their argument: gzip's hold the second they were made in, and two workers must collect one name."""
    return argname if isinstance(val, bytes) else None
