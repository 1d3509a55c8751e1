"""A headless Chromium, driven by its DevTools protocol: opens a page, notes what it asked for, takes its picture."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import numpy as np
from PIL import Image

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--headless=new", "--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist", "--force-color-profile=srgb", "--hide-scrollbars", "--remote-debugging-port=0",
    "--no-first-run", "--disable-extensions", "--disable-background-networking", "--disable-component-update",
]  # fmt: skip


@dataclass
class Seen:
    """What a page did."""

    requests: list[str] = field(default_factory=list)
    """Addresses asked for, in order."""
    answers: Counter = field(default_factory=Counter)
    """Answers by status."""
    bytes: int = 0
    """Received, headers included."""
    errors: list[str] = field(default_factory=list)
    """Errors and warnings of the console, and exceptions; missing chunks are no error."""


class Page:
    """One tab. Not for several threads."""

    def __init__(self, width: int = 1000, height: int = 700) -> None:
        self._folder = tempfile.mkdtemp(prefix="chromium-")
        self._loop = asyncio.new_event_loop()
        command = [
            CHROMIUM,
            *FLAGS,
            f"--user-data-dir={self._folder}",
            f"--window-size={width},{height}",
            "about:blank",
        ]
        self._process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        self._size = width, height
        self._answers: dict[int, asyncio.Future] = {}
        self.seen = Seen()
        self._loop.run_until_complete(self._connect())

    def open(self, address: str) -> None:
        """Load a page from scratch, and wait until its map has drawn all it asked for, or it says what is wrong."""
        self.seen = Seen()
        self._do("Page.navigate", url="about:blank")
        self._do("Page.navigate", url=address)
        self.wait("window.spacex || document.getElementById('error')?.hidden === false")
        if self.run("Boolean(window.spacex)"):
            self.settle()

    def settle(self) -> None:
        """Wait until the map says that everything in view is drawn."""
        self.wait("spacex.map.getLayers().getArray().every((layer) => layer.getSource().getState() === 'ready')")
        self.run("new Promise((done) => { spacex.map.once('rendercomplete', () => done(true)); spacex.map.render(); })")
        # what is drawn reaches the screen with the next frame
        self.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))")

    def run(self, code: str):
        """The value of a JavaScript expression; promises are waited for."""
        got = self._do("Runtime.evaluate", expression=code, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in got, got["exceptionDetails"]
        return got["result"].get("value")

    def wait(self, condition: str, seconds: float = 60) -> None:
        until = time.monotonic() + seconds
        while not self.run(f"Boolean({condition})"):
            assert time.monotonic() < until, f"{condition} did not come true; {self.seen.errors}"
            time.sleep(0.05)

    def click(self, x: float, y: float) -> None:
        for kind in ("mousePressed", "mouseReleased"):
            self._do("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def point(self, x: float, y: float) -> None:
        self._do("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def picture(self, file: Path | None = None) -> np.ndarray:
        """(height, width, 3) uint8 of what is seen."""
        data = base64.b64decode(self._do("Page.captureScreenshot", format="png")["data"])
        if file:
            Path(file).write_bytes(data)
        return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))

    def close(self) -> None:
        self._loop.run_until_complete(self._session.close())
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._loop.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    async def _connect(self) -> None:
        port = await self._port()
        self._session = aiohttp.ClientSession()
        async with self._session.get(f"http://127.0.0.1:{port}/json/list") as answer:
            [tab, *_] = [target for target in await answer.json() if target["type"] == "page"]
        self._socket = await self._session.ws_connect(tab["webSocketDebuggerUrl"], max_msg_size=0)
        self._listener = self._loop.create_task(self._listen())
        for name in ("Page", "Runtime", "Network", "Log"):
            await self._ask(f"{name}.enable")
        width, height = self._size
        await self._ask(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
        )

    async def _port(self) -> int:
        file, until = Path(self._folder, "DevToolsActivePort"), time.monotonic() + 60
        while not (file.exists() and file.read_text().strip()):
            assert time.monotonic() < until, "Chromium does not start"
            assert self._process.poll() is None, "Chromium ended"
            await asyncio.sleep(0.05)
        return int(file.read_text().splitlines()[0])

    def _do(self, method: str, **values):
        return self._loop.run_until_complete(asyncio.wait_for(self._ask(method, **values), 90))

    async def _ask(self, method: str, **values):
        number = len(self._answers) + 1
        self._answers[number] = self._loop.create_future()
        await self._socket.send_str(json.dumps({"id": number, "method": method, "params": values}))
        return await self._answers[number]

    async def _listen(self) -> None:
        async for message in self._socket:
            told = json.loads(message.data)
            if "id" in told:
                future = self._answers[told["id"]]
                if "error" in told:
                    future.set_exception(RuntimeError(str(told["error"])))
                else:
                    future.set_result(told["result"])
            else:
                self._note(told["method"], told["params"])

    def _note(self, method: str, told: dict) -> None:
        if method == "Network.requestWillBeSent":
            self.seen.requests.append(told["request"]["url"])
        elif method == "Network.responseReceived":
            self.seen.answers[told["response"]["status"]] += 1
        elif method == "Network.loadingFinished":
            self.seen.bytes += int(told["encodedDataLength"])
        elif method == "Runtime.exceptionThrown":
            self.seen.errors.append(told["exceptionDetails"].get("exception", {}).get("description", str(told)))
        elif method == "Runtime.consoleAPICalled" and told["type"] in ("error", "warning"):
            self.seen.errors.append(
                " ".join(str(value.get("value", value.get("description"))) for value in told["args"])
            )
        elif method == "Log.entryAdded" and told["entry"]["level"] == "error":
            entry = told["entry"]
            if not (entry["source"] == "network" and "/c/" in entry.get("url", "")):
                self.seen.errors.append(f"{entry['text']} {entry.get('url', '')}")
