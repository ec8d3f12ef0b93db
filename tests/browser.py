"""Debian's Chromium through Playwright's sync API, and applications served to it on a free port.

Playwright keeps an event loop in the thread of the test: run what is asynchronous in a thread of its own.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import uvicorn
from playwright.sync_api import Browser, Page, expect, sync_playwright

DEADLINE = 15.0  # seconds, for what has to happen and nothing says when

VIOLATIONS = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) => {
  window.violations.push(`${event.violatedDirective}: ${event.blockedURI}`);
});
"""


@pytest.fixture(scope="module", name="browser")
def chromium() -> Iterator[Browser]:
    """Yield a Chromium without a window."""
    expect.set_options(timeout=DEADLINE * 1000)
    with sync_playwright() as playwright:
        found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
        assert found, "these tests need Chromium: apt-get install chromium"
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


class Seen:
    """What a page did that it should not: dialogs, errors of scripts, violations of its policy, foreign requests."""

    def __init__(self, page: Page, origin: str) -> None:
        self.wrong: list[str] = []
        page.add_init_script(VIOLATIONS)
        page.on("dialog", lambda dialog: (self.wrong.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("pageerror", lambda error: self.wrong.append(f"error: {error}"))
        page.on("console", self._said)
        page.on("request", lambda asked: asked.url.startswith(f"{origin}/") or self.wrong.append(f"asked {asked.url}"))

    def _said(self, message: Any) -> None:
        if message.type in ("error", "warning") and not message.text.startswith("Failed to load resource"):
            self.wrong.append(f"console: {message.text}")


@contextmanager
def opened(browser: Browser, url: str, **settings: Any) -> Iterator[Page]:
    """Open an address in a browser that knows no other, and check in the end that the page did nothing it should not."""
    context = browser.new_context(**settings)
    try:
        page = context.new_page()
        seen = Seen(page, "/".join(url.split("/")[:3]))
        page.goto(url)
        yield page
        assert page.evaluate("window.violations ?? []") == []
        assert seen.wrong == []
    finally:
        context.close()


@contextmanager
def served(app: Any, port: int = 0) -> Iterator[str]:
    """Serve an application in a thread, on a free port unless given, and yield its origin."""
    server = uvicorn.Server(
        uvicorn.Config(app, port=port, log_config=None, access_log=False, ws="none", timeout_graceful_shutdown=1)
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until(lambda: server.started)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        close = getattr(getattr(app, "state", None), "close", None)
        if close is not None:
            close()
        server.should_exit = True
        thread.join(DEADLINE)
        assert not thread.is_alive()


_PAINTED = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
_TYPED = """async ([selector, texts]) => {
  const search = document.querySelector(selector), took = [];
  for (const text of texts) {
    await new Promise((done) => setTimeout(done, 50));  // a person's next keystroke
    const start = performance.now();
    search.value = text;
    search.dispatchEvent(new Event("input", { bubbles: true }));
    await new Promise((done) => requestAnimationFrame(() => {
      const channel = new MessageChannel();
      channel.port1.onmessage = done;  // comes after the frame
      channel.port2.postMessage(0);
    }));
    took.push(performance.now() - start);
  }
  return took;
}"""


def painted(page: Page, url: str) -> float:
    """Open an address four times, and return after how many milliseconds something was painted, at best.

    The machine may be busy with something else in one of them.
    """
    took = []
    for _ in range(4):
        page.goto(url)
        page.wait_for_function(f"() => {_PAINTED}")
        took.append(page.evaluate(_PAINTED))
    return min(took)


def keystrokes(page: Page, selector: str, word: str) -> dict[str, float]:
    """Type a word into a field and delete it, and return how many milliseconds each text took to be painted, at best
    of eight rounds."""
    texts = [word[:end] for end in (*range(1, len(word) + 1), *range(len(word) - 1, -1, -1))]
    rounds = [page.evaluate(_TYPED, [selector, texts]) for _ in range(8)]
    return {text: min(took[at] for took in rounds) for at, text in enumerate(texts)}


def until(is_so: Callable[[], object], seconds: float = DEADLINE) -> None:
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)
