#!/usr/bin/env python3
"""Measure how often the classifier is right, on labels that others gave.

    accuracy.py [FOLDER] [--errors]

FOLDER holds `annotated.jsonl` (tools with the hints their authors set) and `categories.jsonl` (tools with the category
that a public catalogue gave them); `../shared/data/labels` beside the checkout when none is given. The hints are the
label, so the classifier does not see them. `--errors` names what is classified otherwise than labelled.

The servers of `HELD_OUT` were not looked at while the word lists were written. Labels of the public catalogue that
differ from ours were judged by hand, one by one: `adjudications.jsonl` beside this file holds the verdicts and why.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Any, Final, NamedTuple

from mcp_policy.catalogue.classifier import classify
from mcp_policy.catalogue.profile import CATEGORIES

HERE: Final = Path(__file__).resolve().parent
LABELS: Final = HERE.parent.parent / "shared" / "data" / "labels"
ADJUDICATIONS: Final = HERE / "adjudications.jsonl"

HELD_OUT: Final = frozenset(
    {
        # annotated.jsonl
        "atlassian-confluence",
        "auth0",
        "context7",
        "dbt",
        "exa",
        "mcp-server-kubernetes",
        "neon",
        "pagerduty",
        "terraform",
        # categories.jsonl
        "Arize-ai/phoenix",
        "ckreiling/mcp-server-docker",
        "get-convex/convex-backend",
        "getzep/graphiti",
        "linear-mcp-server",
        "mixpanel-mcp-server",
        "neondatabase/mcp-server-neon",
        "paypal/paypal-mcp-server",
        "postmanlabs/postman-mcp-server",
        "topoteretes/cognee",
        "triggerdotdev/trigger.dev",
        "twilio-labs/mcp",
        "winor30/mcp-server-datadog",
    }
)

# Authors set `destructiveHint` on what overwrites, too. A name that says no more than that is not held to be a miss.
PLAIN_CHANGES: Final = {
    *("add", "append", "apply", "assign", "associate", "attach", "configure", "create", "edit", "enable", "fill"),
    *("import", "insert", "invite", "link", "manage", "modify", "move", "patch", "post", "put", "rename", "replace"),
    *("run", "save", "send", "set", "start", "submit", "trigger", "update", "upload", "upsert", "write"),
}


class Row(NamedTuple):
    """A labelled tool, and what the classifier says of it."""

    server: str
    tool: str
    label: str
    found: str
    confidence: float
    description: str


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=LABELS)
    parser.add_argument("--errors", action="store_true")
    options = parser.parse_args()
    if not options.folder.is_dir():
        print(f"there are no labels in {options.folder}", file=sys.stderr)
        return 2

    hinted = list(lines(options.folder / "annotated.jsonl"))
    named = list(lines(options.folder / "categories.jsonl"))
    verdicts = {(line["server"], line["tool"]): line["verdict"] for line in lines(ADJUDICATIONS)}

    started = perf_counter()
    by_hint = [classified(line, hint_label(line)) for line in hinted]
    spent = perf_counter() - started
    print(f"{len(hinted)} tools classified in {spent * 1000:.0f} ms, {spent / len(hinted) * 1e6:.0f} µs each\n")
    print("# Authors' hints: does the tool only read?\n")
    for title, part in parts(by_hint):
        binary(title, part)
    baseline = [row._replace(found=first_known_verb(row.tool)) for row in by_hint]
    binary("all servers, by a list of first known verbs", baseline)
    destructive(by_hint)

    print("\n# A public catalogue's categories\n")
    by_name = [classified(line, line["category"].lower()) for line in named]
    judged = [row._replace(label=verdicts.get((row.server, row.tool), row.label)) for row in by_name]
    for title, part in parts(by_name):
        binary(f"{title}, labels as they are", part)
    for title, part in parts(judged):
        binary(f"{title}, labels as adjudicated", part)
    for title, part in parts(judged):
        matrix(f"{title}, labels as adjudicated", part)
    binary(
        "the public labels, against the adjudicated ones",
        [row._replace(found=other.label) for row, other in zip(judged, by_name, strict=True)],
    )

    calibration([*by_hint, *judged])
    if options.errors:
        errors([*by_hint, *judged])
    return 0


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def hint_label(line: dict[str, Any]) -> str:
    """Return what the hints say: read-only, destructive, or something between."""
    hints = line["annotations"]
    if hints.get("readOnlyHint") is True:
        return "read"
    return "destructive" if hints.get("destructiveHint") is True else "write"


def classified(line: dict[str, Any], label: str) -> Row:
    tool = {
        "name": line["tool"],
        "description": line.get("description", ""),
        "inputSchema": {"type": "object", "properties": {name: {} for name in line.get("params", ())}},
    }
    profile = classify(tool)
    return Row(line["server"], line["tool"], label, profile.category, profile.confidence, tool["description"])


VERBS: Final = {
    "read": ("get", "list", "search", "find", "fetch", "read", "describe", "show", "query", "check", "view", "count"),
    "write": (
        "create",
        "update",
        "add",
        "set",
        "edit",
        "write",
        "send",
        "post",
        "put",
        "move",
        "upload",
        "start",
        "stop",
    ),
    "destructive": ("delete", "remove", "drop", "purge", "clear", "destroy"),
    "execute": ("run", "execute", "eval", "invoke"),
}


def first_known_verb(tool: str) -> str:
    """Return what a list of first verbs makes of a name: the floor to beat."""
    meaning = {verb: category for category, verbs in VERBS.items() for verb in verbs}
    words = tool.replace("-", "_").lower().split("_")
    return next((meaning[word] for word in words if word in meaning), "write")


def parts(rows: Sequence[Row]) -> list[tuple[str, list[Row]]]:
    held = [row for row in rows if row.server in HELD_OUT]
    return [("servers held out", held), ("servers looked at", [row for row in rows if row.server not in HELD_OUT])]


def binary(title: str, rows: Sequence[Row]) -> None:
    """Print the confusion of reads and the rest."""
    count = Counter((row.label == "read", row.found == "read") for row in rows)
    right, others = count[True, True] + count[False, False], count[False, True] + count[False, False]
    print(f"{title}: {len(rows)} tools")
    print(f"  {'':14}{'called read':>14}{'called else':>14}")
    print(f"  {'labelled read':14}{count[True, True]:14}{count[True, False]:14}")
    print(f"  {'labelled else':14}{count[False, True]:14}{count[False, False]:14}")
    print(f"  right {share(right, len(rows))}; others called read {share(count[False, True], others)}\n")


def matrix(title: str, rows: Sequence[Row]) -> None:
    """Print the confusion of the five categories."""
    count = Counter((row.label, row.found) for row in rows)
    print(f"{title}: {len(rows)} tools, label by line, classifier by column")
    print(f"  {'':12}" + "".join(f"{name:>12}" for name in CATEGORIES))
    for label in CATEGORIES:
        print(f"  {label:12}" + "".join(f"{count[label, found]:12}" for found in CATEGORIES))
    print(f"  right {share(sum(count[name, name] for name in CATEGORIES), len(rows))}\n")


def destructive(rows: Sequence[Row]) -> None:
    """Print how many of the tools that authors call destructive are called so."""
    meant = [row for row in rows if row.label == "destructive"]
    beyond = [row for row in meant if PLAIN_CHANGES.isdisjoint(words(row.tool))]
    for title, among in (
        ("destructive by hint, name not plainly a change", beyond),
        ("destructive by hint, all", meant),
    ):
        for part, chosen in parts(among):
            hit = sum(row.found in ("destructive", "financial") for row in chosen)
            run = sum(row.found == "execute" for row in chosen)
            print(f"{title}, {part}: found {share(hit, len(chosen))}, and {run} are called execute")


def words(tool: str) -> set[str]:
    spaced = "".join(f" {letter}" if letter.isupper() else letter for letter in tool)
    return set("".join(letter if letter.isalnum() else " " for letter in spaced).lower().split())


def calibration(rows: Sequence[Row]) -> None:
    """Print what a confidence has been worth."""
    print("# Confidence: said, and the share of reads and non-reads told apart rightly\n")
    for said in sorted({row.confidence for row in rows}, reverse=True):
        those = [row for row in rows if row.confidence == said]
        print(
            f"  {said:5.2f}  {share(sum((row.label == 'read') == (row.found == 'read') for row in those), len(those))}"
        )


def errors(rows: Sequence[Row]) -> None:
    print("\n# Classified otherwise than labelled\n")
    for row in sorted(row for row in rows if row.found != row.label):
        said = f"{row.confidence:.2f} {row.server} {row.tool}: {row.description[:90]!r}"
        print(f"{row.label:>12} -> {row.found:12} {said}")


def share(part: int, whole: int) -> str:
    return f"{part / whole:6.1%} ({part} of {whole})" if whole else "none"


if __name__ == "__main__":
    sys.exit(main())
