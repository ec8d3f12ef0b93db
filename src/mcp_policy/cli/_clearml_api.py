"""A stand-in for the ClearML API: what the real `clearml-mcp` server needs to log in and to answer, and nothing more.

It listens on the loopback interface only, on a port of the system's choice, takes one pair of credentials made for the
occasion, and keeps a record of what it was asked: that tells whether a call reached the server behind the policy.
"""

from __future__ import annotations

import base64
import json
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

TASKS: Final = {
    "3f1c5a2e9b7d4c60a8e1f2d3c4b5a697": "resnet50, first try",
    "9d0e4b7a6c1f4e83b2a5d7c8f9e01234": "resnet50, twice the batch",
}
_PROJECT: Final = {"id": "5b2d8e7c1a904f36", "name": "image classification"}
_SCALARS: Final = {
    "loss": {"train": {"name": "train", "x": [0, 1, 2, 3], "y": [2.31, 1.18, 0.74, 0.52]}},
    "accuracy": {"validation": {"name": "validation", "x": [0, 1, 2, 3], "y": [0.11, 0.58, 0.73, 0.81]}},
}


class ClearMLApi(ThreadingHTTPServer):
    """The stand-in. `requests` names the endpoints that it was asked for, logins aside, in order."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.key = secrets.token_hex(8)
        self.secret = secrets.token_hex(16)
        self.token = _token()
        self.requests: list[str] = []

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def environment(self) -> dict[str, str]:
        """The variables that point the ClearML client at it."""
        hosts = {f"CLEARML_{name}_HOST": self.url for name in ("API", "WEB", "FILES")}
        return hosts | {"CLEARML_API_ACCESS_KEY": self.key, "CLEARML_API_SECRET_KEY": self.secret}

    def answer(self, endpoint: str, asked: dict[str, Any]) -> dict[str, Any] | None:
        """Return the data of an answer, or None where there is no such thing."""
        self.requests.append(endpoint)
        task = asked.get("task", "")
        if endpoint == "projects.get_all":
            return {"projects": [_PROJECT]}
        if endpoint == "tasks.get_by_id" and task in TASKS:
            state = {"status": "completed", "type": "training", "project": _PROJECT["id"]}
            return {"task": {"id": task, "name": TASKS[task], **state}}
        if endpoint == "events.scalar_metrics_iter_histogram" and task in TASKS:
            return dict(_SCALARS)
        return None


class _Handler(BaseHTTPRequestHandler):
    server: ClearMLApi
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        endpoint = self.path.rpartition("/")[2]
        if endpoint == "auth.login":
            self._reply(endpoint, {"token": self.server.token} if self._may("Basic", self._basic()) else None, 401)
        elif not self._may("Bearer", self.server.token):
            self._reply(endpoint, None, 401)
        else:
            self._reply(endpoint, self.server.answer(endpoint, json.loads(body or b"{}")), 400)

    do_POST = do_GET  # noqa: N815  # the name that `http.server` looks for

    def _basic(self) -> str:
        return base64.b64encode(f"{self.server.key}:{self.server.secret}".encode()).decode()

    def _may(self, scheme: str, credentials: str) -> bool:
        given = self.headers.get("Authorization", "").encode()
        return secrets.compare_digest(given, f"{scheme} {credentials}".encode())

    def _reply(self, endpoint: str, data: dict[str, Any] | None, failure: int) -> None:
        status = failure if data is None else 200
        about = {"result_code": status, "result_subcode": 0, "result_msg": "OK" if data is not None else "refused"}
        names = {"name": endpoint, "requested_version": "2.9", "actual_version": "2.9"}
        meta = {"id": "demo", "trx": "demo", "endpoint": names, "error_stack": "", "error_data": {}, **about}
        body = json.dumps({"meta": meta, "data": data or {}}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet: the demo prints what matters."""


def _token() -> str:
    """Return what looks like a token to a client that reads only when it runs out."""
    parts = ({"alg": "none"}, {"exp": int(time.time()) + 3600, "identity": {}})
    return (
        ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts) + ".demo"
    )


@contextmanager
def clearml_api() -> Iterator[ClearMLApi]:
    """Serve the stand-in from a thread of this process for as long as the block runs."""
    api = ClearMLApi()
    thread = threading.Thread(target=api.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield api
    finally:
        api.shutdown()
        api.server_close()
        thread.join()
