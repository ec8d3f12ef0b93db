#!/usr/bin/env python3
"""Set this project up and run it. Needs Python 3.11 or newer and a package index that pip can reach.

    python3 dev.py demo             the real clearml-mcp server behind a policy, told as it happens
    python3 dev.py test [ARGS]      the tests, on all stacks (with ARGS pytest alone, which gets them)
    python3 dev.py lint             style, types and the direction of imports
    python3 dev.py docs             the documentation, into site/
    python3 dev.py wheel            the wheel, installed and used where the source tree cannot be seen
    python3 dev.py bench [ARGS]     the benchmarks (ARGS go to benchmarks/run.py)
    python3 dev.py conformance      the conformance cases beside the checkout, where there are any
    python3 dev.py ci               test, lint, docs, wheel and conformance

Everything is installed into .venv/ beside this file, and again only when pyproject.toml has changed.
"""

import sys

if sys.version_info < (3, 11):  # an older Python reads no further than this, so nothing above or here may be new to it
    sys.exit("mcp-policy needs Python 3.11 or newer, and this is %d.%d: try `python3.13 dev.py`" % sys.version_info[:2])

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
STAMP = VENV / "dev-stamp.json"
CONFORMANCE = ROOT.parent / "shared" / "conformance" / "run.py"

EXTRAS = (
    "asgi",
    "completion",
    "demo",
    "fastmcp",
    "gateway",
    "mcp",
    "otel",
    "redis",
    "rich",
    "web",
    "webhook",
    "yaml",
    "z3",
)
PARALLEL = ("-n", "auto", "--dist", "loadfile", "--no-loadscope-reorder")  # long files come in the middle
PIP = ("-m", "pip", "--disable-pip-version-check", "--no-input", "-qq")


def main(arguments: list[str]) -> int:
    """Run one command; the status is that of the first tool that failed."""
    command = COMMANDS.get(arguments[0]) if arguments else None
    if command is None:
        print(__doc__)
        return 2 if arguments and arguments[0] not in ("-h", "--help") else 0
    try:
        command(arguments[1:])
    except subprocess.CalledProcessError as error:
        return error.returncode or 1
    return 0


def demo(arguments: list[str]) -> None:
    install(extras=("demo",))
    run(tool("mcp-policy"), "demo", *arguments)


def test(arguments: list[str]) -> None:
    install(extras=EXTRAS, groups=("test",))
    if not shutil.which("chromium"):  # pages are tested in a real browser
        python("-m", "playwright", "install", "chromium")
    python("-m", "pytest", *(arguments or PARALLEL))
    if not arguments:  # stacks that cannot live in one environment with these
        python("-m", "nox", "--tags", "test")


def lint(_: list[str]) -> None:
    install(extras=EXTRAS, groups=("lint",))
    checks = (
        ("ruff", "check", "."),
        ("ruff", "format", "--check", "."),
        ("mypy",),
        ("lint-imports", "--no-logo"),
    )
    failed = [(name, *rest) for name, *rest in checks if subprocess.call([tool(name), *rest], cwd=ROOT)]
    if failed:  # every check has had its say
        print("failed: " + ", ".join(f"`{' '.join(check)}`" for check in failed))
        raise subprocess.CalledProcessError(1, failed[0])


def docs(_: list[str]) -> None:
    os.environ.setdefault("NO_MKDOCS_2_WARNING", "1")  # the theme advertises what comes after it
    install(extras=("web",), groups=("docs",))
    python("-m", "mkdocs", "build", "--strict", "--quiet")
    say("the documentation is in site/")


def wheel(_: list[str]) -> None:
    """Build the wheel by way of the source distribution, so that both are known to be whole."""
    install(groups=("wheel",))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        python("-m", "build", "--outdir", str(folder / "dist"), str(ROOT), stdout=subprocess.DEVNULL)
        (built,) = (folder / "dist").glob("*.whl")
        run(sys.executable, "-m", "venv", "--without-pip", str(folder / "venv"))
        python(*PIP, "--python", str(folder / "venv"), "install", str(built), cwd=folder)
        run(tool("python", folder / "venv"), "-I", str(ROOT / "tests" / "smoke.py"), cwd=folder)
        run(tool("mcp-policy", folder / "venv"), "--help", cwd=folder, stdout=subprocess.DEVNULL)
    say(f"{built.name} works without the source tree")


def bench(arguments: list[str]) -> None:
    install(extras=EXTRAS, groups=("bench",))
    python("benchmarks/run.py", *arguments)


def conformance(_: list[str]) -> None:
    install(extras=EXTRAS, groups=("test",))
    if CONFORMANCE.exists():
        python(str(CONFORMANCE))
    else:
        say("no conformance cases beside this checkout")


def ci(_: list[str]) -> None:
    for command in (test, lint, docs, wheel, conformance):
        command([])


COMMANDS: dict[str, Callable[[list[str]], None]] = {
    command.__name__: command for command in (demo, test, lint, docs, wheel, bench, conformance, ci)
}


def install(extras: tuple[str, ...] = (), groups: tuple[str, ...] = ()) -> None:
    """Make .venv hold the package with these extras and dependency groups, unless it does already."""
    wanted = {*extras, *groups}
    digest = hashlib.sha256((ROOT / "pyproject.toml").read_bytes() + sys.version.encode()).hexdigest()
    held = installed(digest)
    if wanted <= held:
        return
    if not Path(tool("python")).exists():
        make_venv()
    say(f"installing {', '.join(sorted(wanted - held)) or 'the package'} into .venv")
    if not held:  # an older pip does not know dependency groups
        python(*PIP, "install", "--upgrade", "pip")
    package = f".[{','.join(extras)}]" if extras else "."
    python(*PIP, "install", "--editable", package, *(f"--group={group}" for group in groups))
    STAMP.write_text(json.dumps({"digest": digest, "parts": sorted(wanted | held)}), encoding="utf-8")


def installed(digest: str) -> set[str]:
    """The extras and groups that .venv holds as pyproject.toml now describes them."""
    try:
        stamp = json.loads(STAMP.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return set()
    return set(stamp["parts"]) if stamp["digest"] == digest and Path(tool("python")).exists() else set()


def make_venv() -> None:
    say("making .venv")
    try:
        run(sys.executable, "-m", "venv", "--clear", str(VENV))
    except subprocess.CalledProcessError:
        sys.exit("this Python cannot make a virtual environment; on Debian `apt-get install python3-venv` mends that")


def tool(name: str, venv: Path = VENV) -> str:
    return str(venv / "Scripts" / f"{name}.exe" if os.name == "nt" else venv / "bin" / name)


def python(*arguments: str, cwd: Path = ROOT, stdout: int | None = None) -> None:
    run(tool("python"), *arguments, cwd=cwd, stdout=stdout)


def run(*command: str, cwd: Path = ROOT, stdout: int | None = None) -> None:
    subprocess.run(command, cwd=cwd, stdout=stdout, check=True)


def say(text: str) -> None:
    print(f"dev.py: {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
