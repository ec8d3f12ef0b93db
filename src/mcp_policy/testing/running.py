"""Running cases: each on the engine that decides at run time, with stores of its own and a clock that steps move.

Rules kept here:

- A policy is read and compiled once, however many cases it has; nothing that a case does is seen by the next.
- No case waits: the clock stands still but for what the steps say.
- A case fails where anything that it expects is not so. What it does not state, it does not test.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from ..approvals.store import ApprovalError
from ..call import Principal, ToolCall
from ..decision import Decision, Effect
from ..engine import PolicyEngine
from ..errors import PolicyError
from ..plans import Plans
from ..policy import Policy
from .cases import Case, PolicySource, Step, StrPath, read_cases
from .coverage import Coverage
from .markers import expanded
from .report import Failure, Mismatch

START: Final = 1_000_000.0
"""What the clock shows when a case begins: a monotonic clock begins anywhere."""

_SMALLEST: Final = 0.001
"""Seconds that `retry_after` may always be off."""


def run_case(case: Case, coverage: Coverage | None = None) -> Failure | None:
    """Run a case, and return how it failed, None where it passed.

    Raises `PolicyError` where its policy is not valid, `OSError` where that cannot be read, and `ImportError` for a
    policy in YAML without the extra `yaml`.
    """
    found = tuple(_load(case) if case.policy is None else _play(case, case.policy, coverage))
    return Failure(case, found) if found else None


def check_file(path: StrPath, coverage: Coverage | None = None) -> None:
    """Run the cases of a file. Raises `AssertionError` with all failures, or what `read_cases` and `run_case` raise."""
    failures = [failure for case in read_cases(path).cases if (failure := run_case(case, coverage)) is not None]
    if failures:
        raise AssertionError("\n\n".join(map(str, failures)))


def policy_of(source: PolicySource) -> Policy:
    """Return the policy of a case; read once, until its file changes. Raises as `Policy.load` does."""
    if source.tree is not None:
        return _parsed(json.dumps(source.tree))
    status = source.path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise OSError(f"`{source.path}` is not a file")
    return _read(source.path, (status.st_mtime_ns, status.st_size, status.st_ino))


@lru_cache(maxsize=256)
def _parsed(text: str) -> Policy:
    return Policy.parse(text)


@lru_cache(maxsize=256)
def _read(path: Path, version: tuple[int, ...]) -> Policy:
    return Policy.load(path)


# -- the engine


class _Clock:
    """Seconds that move when a step says so."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


@lru_cache(maxsize=1)
def _asked() -> PolicyEngine:
    """Return the engine that looks categories up for all cases, in the bundled catalogue."""
    return PolicyEngine()


@lru_cache(maxsize=256)
def _plans(policy: Policy) -> Plans:
    return Plans(policy, _asked()._category_of)


def _engine(plans: Plans, clock: Callable[[], float]) -> PolicyEngine:
    """Return an engine with state of its own, and a policy that is compiled already."""
    engine = PolicyEngine(clock=clock)
    engine._plans = plans
    return engine


def call_of(raw: Mapping[str, Any]) -> ToolCall:
    """Return the call that a case writes down."""
    about = {key: raw[key] for key in ("session", "server") if key in raw}
    if "context" in raw:
        about["context"] = expanded(raw["context"])
    if "principal" in raw:
        principal = raw["principal"]
        about["principal"] = Principal(**{**principal, "claims": expanded(principal.get("claims", {}))})
    return ToolCall(raw.get("tool"), expanded(raw.get("arguments", {})), **about)  # type: ignore[arg-type]  # may be malformed


def _play(case: Case, source: PolicySource, coverage: Coverage | None) -> Iterator[Mismatch]:
    policy, clock = policy_of(source), _Clock()
    plans = _plans(policy) if coverage is None else coverage.plans(str(source), policy, _asked()._category_of)
    engine = _engine(plans, clock)
    waiting = ""
    for place, step in enumerate(case.steps):
        clock.now = START + step.at
        if step.do in ("approve", "reject"):
            try:
                (engine.approve if step.do == "approve" else engine.reject)(waiting, by=step.by)
            except ApprovalError as error:
                yield Mismatch((), {}, {}, step, place, note=f"cannot {step.do}: {error}")
            continue
        call, decide = call_of(step.call), engine.evaluate if step.do == "evaluate" else engine.authorize
        for time in range(1, step.times + 1):
            decision = decide(call)
            if coverage is not None:
                coverage.note(policy, decision)
            if decision.effect is Effect.APPROVE and decision.approval is not None:
                waiting = decision.approval.id
            wrong = tuple(key for key, wanted in step.expect.items() if not _MEETS[key](decision, wanted, step))
            if wrong:
                found = {key: _FOUND[key](decision, wanted) for key, wanted in step.expect.items()}
                yield Mismatch(wrong, step.expect, found, step, place, time, decision)


# -- what is expected, and what was found


def _is_close(decision: Decision, wanted: float | None, step: Step) -> bool:
    found = decision.retry_after
    if found is None or wanted is None:
        return found is wanted
    return abs(found - wanted) <= max(step.window / 100, _SMALLEST)


def _left(decision: Decision, names: Mapping[str, Any]) -> dict[str, int | float | None]:
    """Return what remains of the limits that are asked for, by counter or pointer; None for one that was not met."""
    left: dict[str, int | float | None] = dict.fromkeys(names)
    for status in reversed(decision.limits):  # of several limits of one counter the first one speaks
        left |= {name: status.remaining for name in names if name in (status.counter, status.rule)}
    return left


def _messages(decision: Decision) -> str:
    return "; ".join(dict.fromkeys(reason.message for reason in (*decision.reasons, *decision.shadow)))


_MEETS: Final[dict[str, Callable[[Decision, Any, Step], bool]]] = {
    "effect": lambda decision, wanted, step: decision.effect == wanted,
    "codes": lambda decision, wanted, step: {reason.code for reason in decision.reasons} == set(wanted),
    "rules": lambda decision, wanted, step: {reason.rule for reason in decision.reasons}.issuperset(wanted),
    "message": lambda decision, wanted, step: wanted in _messages(decision),
    "retry_after": _is_close,
    "remaining": lambda decision, wanted, step: _left(decision, wanted) == wanted,
    "would_be": lambda decision, wanted, step: decision.would_be == wanted,
}
_FOUND: Final[dict[str, Callable[[Decision, Any], Any]]] = {
    "effect": lambda decision, wanted: str(decision.effect),
    "codes": lambda decision, wanted: list(dict.fromkeys(str(reason.code) for reason in decision.reasons)),
    "rules": lambda decision, wanted: list(dict.fromkeys(reason.rule for reason in decision.reasons)),
    "message": lambda decision, wanted: _messages(decision),
    "retry_after": lambda decision, wanted: decision.retry_after,
    "remaining": _left,
    "would_be": lambda decision, wanted: None if decision.would_be is None else str(decision.would_be),
}


# -- texts that a policy is read from


def _load(case: Case) -> Iterator[Mismatch]:
    try:
        Policy.parse(expanded(case.text))
    except PolicyError as error:
        found = list(dict.fromkeys((problem.pointer, str(problem.code)) for problem in error.problems))
    else:
        found = []
    wanted = {(problem["pointer"], problem["code"]) for problem in case.problems}
    if not wanted <= set(found) or (found and not wanted):
        said = [{"pointer": pointer, "code": code} for pointer, code in found]
        yield Mismatch(("problems",), {"problems": case.problems}, {"problems": said})
