"""A headless Chromium, driven over the DevTools protocol on a pair of pipes: what a person does with a page.

Commands and answers are JSON objects, each ended by a zero byte (`--remote-debugging-pipe`).
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: wall seconds a page may take; a busy machine is slow, and a hang must not last for ever
_PATIENCE = 120


def find_chromium() -> str | None:
    """Return the browser's path, or None."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Page:
    """One tab."""

    def __init__(self, to: int, come: int) -> None:
        self._to = to
        self._come = os.fdopen(come, "rb", buffering=0)
        self._buffer = b""
        self._numbers = itertools.count(1)
        self._session = ""
        self._loaded = False
        #: what the page's console said, uncaught errors and blocked scripts included
        self.complaints: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def close(self) -> None:
        """Close the pipe; the browser has ended."""
        self._come.close()

    def call(self, method: str, **parameters: Any) -> Any:
        """Run a command and return its result."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while (answer := self._read()).get("id") != number:
            self._note(answer)
        if "error" in answer:
            raise AssertionError(f"{method}: {answer['error']}")
        return answer["result"]

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            data = self._come.read(1 << 16)
            if not data:
                raise AssertionError("chromium ended")
            self._buffer += data
        text, _, self._buffer = self._buffer.partition(b"\0")
        read: dict[str, Any] = json.loads(text)
        return read

    def _note(self, event: dict[str, Any]) -> None:
        method, told = event.get("method"), event.get("params", {})
        self._loaded = self._loaded or method == "Page.loadEventFired"
        if method == "Runtime.exceptionThrown":
            self.complaints.append(str(told["exceptionDetails"].get("exception", {}).get("description")))
        elif method == "Log.entryAdded" and told["entry"]["level"] == "error":
            self.complaints.append(told["entry"]["text"])

    def open(self, address: str) -> None:
        """Load a page and wait until its script has drawn it."""
        # an address with another fragment alone would load nothing
        for each in ("about:blank", address):
            self._loaded = False
            self.call("Page.navigate", url=each)
            while not self._loaded:
                self._note(self._read())
        self.wait("document.documentElement.hasAttribute('data-ready')")

    def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression; a promise is awaited."""
        done = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in done:
            raise AssertionError(done["exceptionDetails"]["exception"].get("description", expression))
        return done["result"].get("value")

    def wait(self, condition: str) -> None:
        """Wait until a JavaScript condition holds."""
        script = (
            "new Promise((done, fail) => { const end = Date.now() + %d; const look = () => "
            "(%s) ? done() : Date.now() > end ? fail(new Error('waited in vain')) : setTimeout(look, 20); look(); })"
        )
        self.evaluate(script % (_PATIENCE * 500, condition))

    def press(self, key: str, text: str = "") -> None:
        """Press and release a key where the focus is."""
        codes = {"Enter": 13, "Escape": 27, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}
        code = codes.get(key, ord(key[0].upper()))
        about = {"key": key, "windowsVirtualKeyCode": code, "text": text or ("\r" if key == "Enter" else "")}
        self.call("Input.dispatchKeyEvent", type="keyDown", **about)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)

    def emulate(self, *, media: str = "", scheme: str = "light") -> None:
        """Look at the page in print, or in dark or light."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", media=media, features=features)

    def resize(self, width: int, height: int, scale: float = 1) -> None:
        """Give the page a window of this size in CSS pixels."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=False
        )

    def screenshot(self, path: Path, *, width: int = 1440, height: int = 1000, scale: float = 1) -> None:
        """Write what the page shows as PNG."""
        self.resize(width, height, scale)
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def pdf(self) -> bytes:
        """Return the page as it is printed."""
        return base64.b64decode(self.call("Page.printToPDF", printBackground=False)["data"])


@contextlib.contextmanager
def chromium(profile: Path) -> Iterator[Page]:
    """Start a browser with a new profile and without network, and yield a tab; end it and all its helpers."""
    browser = find_chromium()
    assert browser, "ask find_chromium first"
    come, their_out = os.pipe()
    their_in, to = os.pipe()
    command = [browser, "--headless=new", "--remote-debugging-pipe", f"--user-data-dir={profile}", "--disable-gpu"]
    command += ["--no-first-run", "--disable-extensions", "--proxy-server=127.0.0.1:9"]  # where nobody listens
    command += ["--no-sandbox"] if os.geteuid() == 0 else []  # it refuses to be root with one
    # the protocol is spoken on descriptors 3 and 4; the pipes may have those numbers, in any order
    script = f'exec 10<&{their_in} 11>&{their_out}; exec 3<&10 4>&11 10<&- 11>&-; exec "$@"'
    process = subprocess.Popen(
        ["bash", "-c", script, "bash", *command],
        pass_fds=(their_in, their_out),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    os.close(their_in)
    os.close(their_out)
    page = None
    try:
        page = Page(to, come)
        yield page
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        os.close(to)
        if page:
            page.close()
