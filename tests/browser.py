"""A headless Chromium, spoken to in its DevTools protocol: open a page, ask what is in it."""

import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from urllib.request import urlopen

from tornado.ioloop import IOLoop
from tornado.websocket import websocket_connect

WEBGL = ["--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"]
PROGRAMS = ("chromium", "chromium-browser", "google-chrome")


def program() -> str | None:
    """The browser of this machine, if any."""
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


class Browser:
    """One browser with one page; to be used as a context manager.

    webgl : computed on the CPU, for pages that draw with it
    """

    def __init__(self, webgl: bool = False):
        self._drawing = WEBGL if webgl else ["--disable-gpu"]

    def __enter__(self):
        self._folder = tempfile.mkdtemp()
        sandbox = ["--no-sandbox"] if os.getuid() == 0 else []
        self._process = subprocess.Popen(
            [program(), "--headless", *sandbox, *self._drawing, "--disable-dev-shm-usage",
             f"--user-data-dir={self._folder}", "--remote-debugging-port=0",
             "--window-size=1600,1000", "about:blank"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self._loop, self._number = IOLoop(make_current=False), 0
        port = self._port()
        with urlopen(f"http://127.0.0.1:{port}/json/list") as answer:
            page = next(one for one in json.load(answer) if one["type"] == "page")
        self._socket = self._loop.run_sync(
            lambda: websocket_connect(page["webSocketDebuggerUrl"], max_message_size=2**27)
        )
        self.events: list[dict] = []
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.tell(f"{domain}.enable")
        return self

    def __exit__(self, *_):
        self._process.terminate()
        self._process.wait(30)
        self._loop.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _port(self) -> str:
        file = Path(self._folder) / "DevToolsActivePort"
        for _ in range(300):
            if file.exists() and file.read_text().count("\n"):
                return file.read_text().splitlines()[0]
            time.sleep(0.1)
        raise TimeoutError("the browser does not start")

    def tell(self, method: str, **parameters: object) -> dict:
        """One command; its result. What else the browser says meanwhile goes to `events`."""
        self._number += 1
        text = json.dumps({"id": self._number, "method": method, "params": parameters})
        self._loop.run_sync(lambda: self._socket.write_message(text))
        while True:
            message = self._next()
            if message.get("id") == self._number:
                if "error" in message:
                    raise RuntimeError(message["error"])
                return message["result"]

    def _next(self) -> dict:
        message = json.loads(self._loop.run_sync(self._socket.read_message, timeout=60))
        if "method" in message:
            self.events.append(message)
        return message

    def open(self, page: Path | str) -> float:
        """Load a file or address to its end; seconds from the command to the load event."""
        self.events.clear()
        begin = time.perf_counter()
        self.tell("Page.navigate", url=page if isinstance(page, str) else page.resolve().as_uri())
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self._next()
        return time.perf_counter() - begin

    def value(self, expression: str) -> object:
        """What a JavaScript expression gives in the page."""
        answer = self.tell("Runtime.evaluate", expression=expression, returnByValue=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"])
        return answer["result"].get("value")

    def requested(self) -> list[str]:
        """Addresses that the page asked for, data addresses left out."""
        sent = (e for e in self.events if e["method"] == "Network.requestWillBeSent")
        addresses = [event["params"]["request"]["url"] for event in sent]
        return [address for address in addresses if not address.startswith("data:")]

    def complaints(self) -> list[str]:
        """Errors of the page's script, and what its policy forbade."""
        found = []
        for event in self.events:
            if event["method"] == "Runtime.exceptionThrown":
                found.append(json.dumps(event["params"]["exceptionDetails"]))
            if event["method"] == "Log.entryAdded" and event["params"]["entry"]["level"] == "error":
                found.append(event["params"]["entry"]["text"])
        return found
