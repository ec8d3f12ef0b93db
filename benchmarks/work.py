"""The policy, the questions and the limits that this package and its peers are asked about."""

from __future__ import annotations

from itertools import count
from typing import Any, NamedTuple

# the tools of the ClearML server
TOOLS = [
    "get_task_info",
    "list_tasks",
    "get_task_parameters",
    "get_task_metrics",
    "get_task_artifacts",
    "get_model_info",
    "list_models",
    "get_model_artifacts",
    "find_project_by_pattern",
    "find_experiment_in_project",
    "list_projects",
    "get_project_stats",
    "compare_tasks",
    "search_tasks",
]

CONDITIONS = [
    {"path": "args.amount", "op": "lte", "value": 100},
    {"path": "args.currency", "op": "in", "value": ["usd", "eur"]},
]
ADDRESS = "^[a-z.]+@example[.]com$"

POLICY: dict[str, Any] = {
    "version": "1",
    "default": "deny",
    "tools": {
        **{tool: {} for tool in TOOLS},
        "rm": {"action": "deny", "reason": "files stay"},
        "create_charge": {"require": CONDITIONS},
        "send_mail": {"require": [{"path": "args.to", "op": "regex", "value": ADDRESS}]},
        "deploy": {"require": [{"path": "args.job.target.name", "op": "eq", "value": "staging"}]},
        "delete_rows": {"deny_if": [{"path": "args.count", "op": "gt", "value": 10}]},
        "transfer": {
            "require": CONDITIONS,
            "deny_if": [{"path": "args.to", "op": "starts_with", "value": "external"}],
        },
    },
}


class Question(NamedTuple):
    """One call and whether it may run; `about` names what is tricky about it."""

    about: str
    tool: str
    arguments: dict[str, object]
    right: bool


class Work(NamedTuple):
    """One kind of decision: the question that is timed, and others that show whether the answer is understood."""

    name: str
    timed: Question
    others: list[Question]


def charge(about: str, right: bool, amount: object = 50, **more: object) -> Question:
    return Question(about, "create_charge", {"amount": amount, "currency": "usd", **more}, right)


WORKS = [
    Work(
        "plain allow",
        Question("a listed tool", "get_task_metrics", {"task_id": "a1"}, True),
        [Question("another listed tool", "list_projects", {}, True)],
    ),
    Work(
        "plain denial",
        Question("a denied tool", "rm", {"path": "a1"}, False),
        [
            Question("a tool that nothing lists", "no_such_tool", {}, False),
            Question("a prefix of a listed name", "get_task_metric", {}, False),
            Question("other case", "Get_Task_Metrics", {}, False),
            Question("a line break after the name", "get_task_metrics\n", {}, False),
            Question("a lookalike letter", "get_t\u0430sk_metrics", {}, False),
        ],
    ),
    Work(
        "two conditions",
        charge("a small charge", True),
        [
            charge("a fraction", True, 99.5),
            charge("the bound itself", True, 100),
            charge("above the bound", False, 101),
            charge("a hair above the bound", False, 100.00000000000001),
            charge("a numeral in a string", False, "50"),
            charge("true for a number", False, True),
            charge("null for a number", False, None),
            charge("NaN", False, float("nan")),
            charge("negative infinity", False, float("-inf")),
            charge("a list for a number", False, [50]),
            charge("another currency", False, currency="gbp"),
            charge("a currency in a list", False, currency=["usd"]),
            Question("no arguments", "create_charge", {}, False),
            charge("an unrelated null beside them", True, note=None),
        ],
    ),
    Work(
        "a regex",
        Question("an address", "send_mail", {"to": "ann@example.com"}, True),
        [
            Question("a line break at the end", "send_mail", {"to": "ann@example.com\n"}, False),
            Question("a line break at the start", "send_mail", {"to": "\nann@example.com"}, False),
            Question("another host", "send_mail", {"to": "ann@example.org"}, False),
            Question("a longer host", "send_mail", {"to": "ann@example.com.evil.org"}, False),
            Question("a number", "send_mail", {"to": 7}, False),
            Question("absent", "send_mail", {}, False),
        ],
    ),
    Work(
        "a nested path",
        Question("the right target", "deploy", {"job": {"target": {"name": "staging"}}}, True),
        [
            Question("more beside it", "deploy", {"job": {"target": {"name": "staging", "n": 1}, "x": "y"}}, True),
            Question("another target", "deploy", {"job": {"target": {"name": "prod"}}}, False),
            Question("null on the way", "deploy", {"job": None}, False),
            Question("a string on the way", "deploy", {"job": "staging"}, False),
            Question("absent", "deploy", {}, False),
        ],
    ),
    Work(
        "a forbidden value",
        Question("a small count", "delete_rows", {"count": 5}, True),
        [
            Question("absent", "delete_rows", {}, True),
            Question("above the bound", "delete_rows", {"count": 11}, False),
            Question("above the bound, in a string", "delete_rows", {"count": "11"}, False),
            Question("above the bound, in a list", "delete_rows", {"count": [11]}, False),
            Question("infinity", "delete_rows", {"count": float("inf")}, False),
        ],
    ),
]

FAULTY = {"amount": 5000, "currency": "gbp", "to": "external-1"}  # three reasons against a `transfer`

ONE_LIMIT = [(10, 60)]
TWO_LIMITS = [(10, 60), (100, 600)]
STEP = 6  # seconds between the calls that are timed: each limit is full, one call leaves it and one enters


class Clock:
    """Seconds that move only when told to."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def marching_clock() -> count[float]:
    """Seconds that move by `STEP` whenever they are read: `marching_clock().__next__` is the clock."""
    return count(1_000_000.0, float(STEP))
