"""Run the test cases of policies, on the engine that decides at run time.

A case file is JSON whose name ends with `.policytest.json` (or, with the extra `yaml`, `.policytest.yaml`):

  {
    "policy": "policy.json",
    "cases": [
      {
        "name": "amounts",
        "call": {"tool": "create_charge"},
        "columns": ["args.amount", "effect"],
        "rows": [[100, "allow"], [101, "deny"]]
      }
    ]
  }

  mcp-policy test                                   every case file in this folder and below
  mcp-policy test --coverage --fail-under 90        and which rules and outcomes no case reached
  mcp-policy test -k amounts refunds.policytest.json
  mcp-policy test --update                          accept what is decided now

Steps with `at` move a clock of the case's own, so that limits are tested without waiting. A case that fails is shown
as a diff: `-` is expected, `+` is what was decided, and the rule that decided it.

The exit status is 0 where all cases passed and the coverage is reached, 4 where one failed or it is not, 3 where a
policy is not valid, 2 where a file cannot be read or used, or there is no case at all.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from time import perf_counter, sleep
from typing import TYPE_CHECKING, Final

from ._exits import FINE, FOUND, INVALID, USAGE, Stop

if TYPE_CHECKING:
    from mcp_policy.testing.cases import Case, CaseFile
    from mcp_policy.testing.coverage import Coverage
    from mcp_policy.testing.updating import Change

    from ._tests import Result

_NOT_ENTERED: Final = frozenset({"node_modules", "__pycache__"})


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    from ._report import add_format

    parser.add_argument("paths", nargs="*", metavar="PATH", help="case files, and folders that hold some (default: .)")
    parser.add_argument("-k", metavar="WORD", dest="word", help="only cases with this in their name, whatever its case")
    parser.add_argument("--coverage", action="store_true", help="tell which rules and outcomes no case reached")
    parser.add_argument(
        "--fail-under",
        metavar="PERCENT",
        type=_percent,
        help="fail where less than this is covered; asks for --coverage",
    )
    parser.add_argument("--update", action="store_true", help="rewrite expectations that are not met (JSON only)")
    parser.add_argument("--watch", action="store_true", help="run again whenever a case file or a policy changes")
    add_format(parser, "json", "junit", "github")


def run(arguments: argparse.Namespace) -> int:
    """Run the cases, print how they ended, and return the exit status."""
    return _watched(arguments) if arguments.watch else _once(arguments)


def _percent(text: str) -> float:
    percent = float(text)
    if not 0 <= percent <= 100:
        raise ValueError
    return percent


_percent.__name__ = "percentage"  # what argparse calls a value that is none


# -- once


def _once(arguments: argparse.Namespace) -> int:
    from mcp_policy.testing.coverage import Coverage

    files = _read(find(arguments.paths or ["."]))
    chosen = [case for file in files for case in file.cases if _is_meant(case, arguments.word)]
    if not chosen:
        raise Stop(USAGE, f"no case has `{arguments.word}` in its name: nothing was tested")
    _check_policies(chosen)
    coverage = Coverage() if arguments.coverage or arguments.fail_under is not None else None
    results = [_run(case, coverage) for case in chosen]
    changes: list[Change] = []
    if arguments.update:
        changes, results = _updated(files, results, arguments.word, coverage)
    enough = coverage is None or arguments.fail_under is None or coverage.percent >= arguments.fail_under
    _write(arguments, results, coverage, changes, enough=enough)
    return FINE if enough and all(result.failure is None for result in results) else FOUND


def _is_meant(case: Case, word: str | None) -> bool:
    return word is None or word.casefold() in case.name.casefold()


def _run(case: Case, coverage: Coverage | None) -> Result:
    from mcp_policy.testing.running import run_case

    from ._tests import Result

    start = perf_counter()
    failure = run_case(case, coverage)
    return Result(case, failure, perf_counter() - start)


def _updated(
    files: Sequence[CaseFile], results: list[Result], word: str | None, coverage: Coverage | None
) -> tuple[list[Change], list[Result]]:
    """Rewrite what failed, and run the files that changed again."""
    from mcp_policy.testing.updating import updated

    from ._files import replace

    changes: list[Change] = []
    for file in files:
        failures = [one.failure for one in results if one.failure is not None and one.case.path == file.path]
        if not failures or file.path.suffix in (".yaml", ".yml"):
            continue
        text, changed = updated(file.path, file.text, failures)
        if changed:
            replace(file.path, text.encode())
            changes += changed
            again = [_run(case, coverage) for case in _read([file.path])[0].cases if _is_meant(case, word)]
            place = next(number for number, result in enumerate(results) if result.case.path == file.path)
            results = [result for result in results if result.case.path != file.path]
            results[place:place] = again
    return changes, results


# -- files


def find(paths: Sequence[str]) -> list[Path]:
    """Return the case files that are named, and those in folders that are. Raises `Stop`."""
    from mcp_policy.errors import readable

    found: dict[Path, None] = {}
    for name in paths:
        try:
            is_folder = Path(name).is_dir()
        except (OSError, ValueError):  # a name that is too long, a null character
            is_folder = False
        below = list(_below(name)) if is_folder else [Path(name)]
        if not below:
            said = f"`{readable(name, 200)}` holds no case file (`*.policytest.json`): nothing was tested"
            raise Stop(USAGE, said)
        found |= dict.fromkeys(below)
    return list(found)


def _below(folder: str) -> Iterator[Path]:
    from mcp_policy.errors import readable
    from mcp_policy.testing.cases import SUFFIXES

    def refuse(error: OSError) -> None:
        why = (error.strerror or str(error)).lower()
        raise Stop(USAGE, f"`{readable(str(error.filename), 200)}` cannot be read: {why}")

    for root, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in _NOT_ENTERED)
        yield from (Path(root) / name for name in sorted(names) if name.endswith(SUFFIXES))


def _read(paths: Sequence[Path]) -> list[CaseFile]:
    """Read case files. Raises `Stop` with everything that is wrong with any of them."""
    from mcp_policy.reading import MAX_BYTES
    from mcp_policy.testing.cases import CaseFileError, parse_cases

    from ._files import read_bytes

    files, wrong = [], []
    for path in paths:
        try:
            files.append(parse_cases(path, read_bytes(str(path), MAX_BYTES)))
        except CaseFileError as error:
            wrong += str(error).splitlines()
        except ImportError as error:
            wrong.append(f"`{path}` cannot be read: {error}")
        except Stop as stop:
            wrong += stop.lines
    if wrong:
        raise Stop(USAGE, *wrong)
    return files


def _check_policies(cases: Sequence[Case]) -> None:
    """Read every policy once, before any case runs. Raises `Stop` with everything that is wrong with any of them."""
    from mcp_policy.errors import PolicyError
    from mcp_policy.testing.running import policy_of

    unread: dict[str, None] = {}
    invalid: dict[str, None] = {}
    for source in {id(case.policy): case.policy for case in cases if case.policy is not None}.values():
        try:
            policy_of(source)
        except PolicyError as error:
            invalid |= dict.fromkeys(f"{source}:{_place(source.tree, str(problem))}" for problem in error.problems)
        except (OSError, ValueError, ImportError) as error:
            said = error.strerror.lower() if isinstance(error, OSError) and error.strerror else str(error)
            unread[f"`{source}` cannot be read: {said}"] = None
    if unread:
        raise Stop(USAGE, *unread)
    if invalid:
        raise Stop(INVALID, *invalid)


def _place(tree: object, said: str) -> str:
    """Return a problem without line and column where these count within a case file's policy."""
    return said if tree is None else f" {said.partition(': ')[2]}" if said[:1].isdigit() else f" {said}"


# -- again and again


def _watched(arguments: argparse.Namespace, sleep: Callable[[float], None] = sleep) -> int:
    from mcp_policy.errors import readable

    from ._exits import _told
    from ._watch import changes

    paths, policies, status = arguments.paths or ["."], set[Path](), FINE
    for changed in changes(lambda: {*_case_files(paths), *policies}, sleep=sleep):
        if changed:
            print(
                f"mcp-policy test: changed: {', '.join(readable(str(file), 200) for file in changed)}", file=sys.stderr
            )
        try:
            status = _once(arguments)
        except Stop as stop:  # ends this run, and not the watch
            status = _told("mcp-policy test", stop)
        policies.update(_policy_files(paths))
    return status


def _case_files(paths: Sequence[str]) -> list[Path]:
    try:
        return find(paths)
    except Stop:  # told by the run
        return []


def _policy_files(paths: Sequence[str]) -> set[Path]:
    found: set[Path] = set()
    for path in _case_files(paths):
        try:
            cases = _read([path])[0].cases
        except Stop:
            continue
        found |= {case.policy.path for case in cases if case.policy is not None}
    return found


# -- what is printed


def _write(
    arguments: argparse.Namespace,
    results: Sequence[Result],
    coverage: Coverage | None,
    changes: Sequence[Change],
    *,
    enough: bool,
) -> None:
    from ._report import CaseResult, write_suite
    from ._style import write_lines, write_text
    from ._tests import as_data, pretty, short_of

    missed = None if enough or coverage is None else short_of(coverage, arguments.fail_under)
    if arguments.format == "pretty":
        write_lines(pretty(results, coverage, changes))
    elif arguments.format == "json":
        write_text(json.dumps(as_data(results, coverage, changes), indent=2) + "\n")
    else:
        suite = [
            CaseResult(str(case.path), case.name, case.line, None if failure is None else str(failure), seconds)
            for case, failure, seconds in results
        ]
        write_suite(suite, arguments.format)
        if coverage is not None:
            print(coverage, file=sys.stderr)
    if missed is not None:
        print(f"mcp-policy test: {missed}", file=sys.stderr)
