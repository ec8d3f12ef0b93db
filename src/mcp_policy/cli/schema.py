"""Print the JSON Schema of policy documents, for editors and other tools.

    mcp-policy schema > policy.schema.json

With `"$schema": "./policy.schema.json"` as its first key, an editor completes a policy, explains each key and marks
mistakes while you type. A schema cannot say everything: `mcp-policy check` and loading find more.
"""

from __future__ import annotations

import argparse
import json

from ._exits import FINE
from ._style import write_text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """There are none."""


def run(arguments: argparse.Namespace) -> int:
    """Print the schema and return the exit status."""
    from mcp_policy.policy import Policy

    write_text(json.dumps(Policy.model_json_schema(), indent=2) + "\n")
    return FINE
