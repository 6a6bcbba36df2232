"""What every test stands on: the signals of a command that a person starts."""

from __future__ import annotations

import signal

from hypothesis import settings

# no test measures time: on a busy host an example takes as long as it takes
settings.register_profile("testbed", deadline=None)
settings.load_profile("testbed")


def pytest_configure() -> None:
    """Hear SIGINT even where the tests run in the background of a script, whose commands ignore it and pass that on."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
