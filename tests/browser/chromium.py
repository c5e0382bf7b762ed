# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Chromium without windows, asked in its own language (the DevTools protocol) over a pipe."""

from __future__ import annotations

import base64
import json
import os
import select
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SECONDS = 20.0

# The debugging pipe is expected at two numbers that no container passes on.
_ON_PIPE = 'exec "$@" 3<&0 4>&1 0</dev/null 1>&2'
_OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--no-first-run",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)

# What a key is for the browser: code, number, and the text that it types.
_KEYS = {
    "/": ("Slash", 191, "/"),
    "ArrowDown": ("ArrowDown", 40, ""),
    "ArrowRight": ("ArrowRight", 39, ""),
    "Enter": ("Enter", 13, "\r"),
    "Escape": ("Escape", 27, ""),
    "Tab": ("Tab", 9, ""),
}


class BrowserError(Exception):
    """The browser refused something, or did not answer."""


def command(profile: Path) -> list[str]:
    """Return the command that starts the browser, with its pipe as standard input and output."""
    return ["sh", "-c", _ON_PIPE, "sh", "chromium-headless-shell", *_OPTIONS, f"--user-data-dir={profile}"]


class Browser:
    """A browser that runs until it is closed."""

    def __init__(self, argv: Sequence[str], environ: dict[str, str], log: Path) -> None:
        with log.open("wb") as errors:
            self._process = subprocess.Popen(
                argv, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, bufsize=0
            )
        self._log = log
        self._buffer = b""
        self._calls = 0
        self.events: list[dict[str, Any]] = []

    def close(self) -> None:
        """End it; it ends by itself when nobody holds its pipe."""
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
        try:
            self._process.wait(SECONDS)
        finally:
            self._process.kill()

    def call(self, method: str, session: str = "", **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol and return its result."""
        self._calls += 1
        message = {"id": self._calls, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + SECONDS
        while True:
            answer = self._read(deadline, method)
            if answer.get("id") == self._calls:
                if "error" in answer:
                    raise BrowserError(f"{method}: {answer['error']}")
                result: dict[str, Any] = answer["result"]
                return result
            self.events.append(answer)

    def page(self) -> Page:
        """Open an empty page."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        return Page(self, target, session)

    def _read(self, deadline: float, what: str) -> dict[str, Any]:
        assert self._process.stdout is not None
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise BrowserError(f"{what}: no answer within {SECONDS:.0f} s")
            read = os.read(self._process.stdout.fileno(), 1 << 20)
            if not read:
                raise BrowserError(f"{what}: the browser ended: {self._log.read_text(errors='replace')[-2000:]}")
            self._buffer += read
        line, self._buffer = self._buffer.split(b"\0", 1)
        message: dict[str, Any] = json.loads(line)
        return message


class Page:
    """A page, and all that it did although nobody wanted it to."""

    def __init__(self, browser: Browser, target: str, session: str) -> None:
        self._browser = browser
        self._target = target
        self._session = session
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        # How long the page worked, whatever else the machine had to do.
        self.call("Performance.enable", timeDomain="threadTicks")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol for this page."""
        return self._browser.call(method, self._session, **parameters)

    def close(self) -> None:
        """Close it."""
        self._browser.call("Target.closeTarget", targetId=self._target)

    def open(self, path: Path, fragment: str = "") -> None:
        """Open a report and wait until it shows what it has."""
        # A page of the same address but for the fragment would only scroll.
        self.call("Page.navigate", url="about:blank")
        self._browser.events.clear()
        self.call("Page.navigate", url=f"{path.as_uri()}{fragment}")
        self.wait("document.documentElement?.dataset.ready === 'yes'")

    def run(self, expression: str) -> Any:
        """Run a script in the page, wait for what it promises, and return its value."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise BrowserError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def wait(self, expression: str) -> None:
        """Wait until something is so."""
        deadline = time.monotonic() + SECONDS
        while not self.run(expression):
            if time.monotonic() > deadline:
                raise BrowserError(f"not so within {SECONDS:.0f} s: {expression}; {self.mishaps()}")
            time.sleep(0.01)

    def texts(self, selector: str) -> list[str]:
        """Return what is read in each element that a selector finds."""
        return list(self.run(f"[...document.querySelectorAll({json.dumps(selector)})].map((node) => node.innerText)"))

    def count(self, selector: str) -> int:
        """Return how many elements a selector finds."""
        return int(self.run(f"document.querySelectorAll({json.dumps(selector)}).length"))

    def key(self, name: str) -> None:
        """Press a key."""
        code, number, text = _KEYS[name]
        key = {"key": name, "code": code, "windowsVirtualKeyCode": number}
        self.call("Input.dispatchKeyEvent", type="keyDown", **key, **({"text": text} if text else {}))
        self.call("Input.dispatchKeyEvent", type="keyUp", **key)

    def type(self, text: str) -> None:
        """Type a text where the focus is."""
        self.call("Input.insertText", text=text)

    def choose(self, control: str, value: str) -> None:
        """Choose in a select, as a person would."""
        self.run(
            f"(() => {{ const control = document.getElementById({json.dumps(control)});"
            f" control.value = {json.dumps(value)}; control.dispatchEvent(new Event('input')); }})()"
        )

    def look(self, width: int, height: int, scheme: str = "light", media: str = "") -> None:
        """Be of a size, and in the colours that somebody likes."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500
        )
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", media=media, features=features)

    def picture(self, whole: bool = False) -> bytes:
        """Return what is seen as a PNG."""
        answer = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        return base64.b64decode(answer["data"])

    def paper(self) -> bytes:
        """Return what is printed as a PDF."""
        return base64.b64decode(self.call("Page.printToPDF", preferCSSPageSize=True, printBackground=False)["data"])

    def worked(self) -> float:
        """Return for how many milliseconds of processor time the page has worked until now."""
        metrics = {metric["name"]: metric["value"] for metric in self.call("Performance.getMetrics")["metrics"]}
        return float(metrics["TaskDuration"]) * 1000

    def mishaps(self) -> list[str]:
        """Return what went wrong, and everything that the page asked of anybody, since it was opened."""
        found = []
        for event in self._browser.events:
            parameters = event.get("params", {})
            match event.get("method"):
                case "Runtime.exceptionThrown":
                    found.append(f"exception: {parameters['exceptionDetails']}")
                case "Log.entryAdded":
                    found.append(f"log: {parameters['entry']['text']}")
                case "Runtime.consoleAPICalled" | "Page.javascriptDialogOpening":
                    found.append(f"{event['method']}: {parameters}")
                case "Network.requestWillBeSent" if parameters["type"] != "Document":
                    found.append(f"request: {parameters['request']['url'][:200]}")
        return found
