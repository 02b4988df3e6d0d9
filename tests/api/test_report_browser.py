"""The report in headless Chromium: no console error, nothing wider than a phone, pictures for the docs.

Chromium is driven through its DevTools protocol on two pipes (file descriptors 3 and 4), so that no driver has to be
installed. The pictures in docs/images are written by
    ALEXANDRA_WRITE_IMAGES=1 .venv/bin/python -m pytest -m slow tests/api/test_report_browser.py
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from alexandra.api import operations
from alexandra.train.solve import Solution

ROOT = Path(__file__).resolve().parents[2]
IMAGES = ROOT / "docs/images"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SIZES = {"phone": (390, 844), "desktop": (1200, 1000)}
SHOWN = {"phone": "body", "desktop": "section:nth-of-type(5)"}  # what stands at the top of the picture
# How far what a chart draws reaches over its edges, in the chart's own units.
OVER = """[...document.querySelectorAll('svg')].map(e => {
  const b = e.getBBox(), v = e.viewBox.baseVal;
  return Math.max(-b.x, -b.y, b.x + b.width - v.width, b.y + b.height - v.height);
})"""
MOST_BYTES = 200_000
SECONDS = 600

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: make system-tools"),
]


class Browser:
    """One headless Chromium with one page; `events` holds what it reported."""

    def __init__(self, profile: Path) -> None:
        commands_out, commands = os.pipe()
        answers, answers_in = os.pipe()
        flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
        flags += ["--remote-debugging-pipe", f"--user-data-dir={profile}", "about:blank"]
        shell = f'exec "$@" 3<&{commands_out} 4>&{answers_in}'
        self.process = subprocess.Popen(
            ["bash", "-c", shell, "chromium", str(CHROMIUM), *flags],
            pass_fds=(commands_out, answers_in),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(commands_out)
        os.close(answers_in)
        self._commands, self._answers = commands, answers
        self._rest = b""
        self._number = 0
        self.events: list[dict[str, Any]] = []
        self._session = ""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """The result of one command; events that come meanwhile are kept."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                result: dict[str, Any] = answer["result"]
                return result
            self.events.append(answer)

    def wait(self, method: str) -> None:
        """Until the event has come."""
        while not any(event.get("method") == method for event in self.events):
            self.events.append(self._read())

    def _read(self) -> dict[str, Any]:
        end = time.monotonic() + SECONDS
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._answers], [], [], max(0.0, end - time.monotonic()))
            part = os.read(self._answers, 1 << 20) if ready else b""
            assert part, "chromium did not answer"
            self._rest += part
        first, _, self._rest = self._rest.partition(b"\0")
        message: dict[str, Any] = json.loads(first)
        return message

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page."""
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def open(self, url: str, width: int, height: int) -> None:
        """Load a page in a window of this size, as a phone does when it is narrow."""
        self.events.clear()
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500
        )
        self.call("Page.navigate", url=url)
        self.wait("Page.loadEventFired")

    def problems(self) -> list[str]:
        """Errors and warnings of the console, exceptions, requests that failed."""
        wrong = ("Runtime.exceptionThrown", "Network.loadingFailed")
        found = [json.dumps(event) for event in self.events if event.get("method") in wrong]
        for event in self.events:
            level = event.get("params", {}).get("entry", {}).get("level") or event.get("params", {}).get("type")
            if event.get("method") in ("Log.entryAdded", "Runtime.consoleAPICalled") and level in ("error", "warning"):
                found.append(json.dumps(event))
        return found

    def close(self) -> None:
        self.process.kill()
        self.process.wait(timeout=SECONDS)
        os.close(self._commands)
        os.close(self._answers)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    found = Browser(tmp_path_factory.mktemp("profile"))
    yield found
    found.close()


@pytest.fixture(scope="module")
def solution(tmp_path_factory: pytest.TempPathFactory) -> Solution:
    """The report of a set that everybody has."""
    folder = tmp_path_factory.mktemp("solved")
    task = ROOT / "examples/tasks/breast_cancer.task"
    return operations.solve(task, registry=folder / "r", runs=folder / "runs", threads=1)


def page_url(solution: Solution) -> str:
    assert solution.report is not None
    return solution.report.resolve().as_uri()


@pytest.mark.parametrize("size", SIZES)
def test_the_report_is_readable_and_silent(browser: Browser, solution: Solution, size: str, tmp_path: Path) -> None:
    width, height = SIZES[size]
    browser.open(page_url(solution), width, height)
    assert browser.problems() == []
    assert browser.evaluate("window.innerWidth") == width
    assert browser.evaluate("document.scrollingElement.scrollWidth") <= width
    assert browser.evaluate("document.querySelectorAll('section').length") == 11
    fonts = "[...document.querySelectorAll('p,li,td,th,h1,h2,pre')].map(e => parseFloat(getComputedStyle(e).fontSize))"
    assert min(browser.evaluate(fonts)) >= 12
    sizes = "[...document.querySelectorAll('section')].map(e => e.getBoundingClientRect().height)"
    assert min(browser.evaluate(sizes)) > 60, "every section shows something"
    charts = "[...document.querySelectorAll('svg')].map(e => e.getBoundingClientRect().width)"
    assert min(browser.evaluate(charts)) > 250
    assert max(browser.evaluate(OVER)) <= 1, "no chart is cut off"
    browser.evaluate(f"document.querySelector('{SHOWN[size]}').scrollIntoView()")
    picture = base64.b64decode(browser.call("Page.captureScreenshot", format="png")["data"])
    (tmp_path / f"{size}.png").write_bytes(picture)
    assert picture.startswith(b"\x89PNG") and 5_000 < len(picture) < MOST_BYTES
    if os.environ.get("ALEXANDRA_WRITE_IMAGES"):
        IMAGES.mkdir(exist_ok=True)
        (IMAGES / f"report-{size}.png").write_bytes(picture)


def test_the_walk_sees_an_error_and_a_page_that_is_too_wide(browser: Browser, tmp_path: Path) -> None:
    page = tmp_path / "bad.html"
    page.write_text(
        '<meta name="viewport" content="width=device-width"><div style="width:900px">wide</div>'
        '<script>console.error("seen")</script><img src="none.png">'
    )
    browser.open(page.as_uri(), 390, 844)
    problems = " ".join(browser.problems())
    assert "seen" in problems and "none.png" in problems
    assert browser.evaluate("document.scrollingElement.scrollWidth") > 390


@pytest.mark.parametrize("size", SIZES)
def test_the_picture_in_the_docs_is_there_and_small(size: str) -> None:
    assert 5_000 < (IMAGES / f"report-{size}.png").stat().st_size < MOST_BYTES
