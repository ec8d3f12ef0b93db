"""The attack patterns that abuse what tools can do, and the rule that stops each.

Rules kept here:

- A pattern is about access, not about a product: it names categories and signals, so it fits tools nobody has seen.
- `stopped_by` promises what a policy can keep. Where a policy is not enough it says what else is needed.
- `policy` is a document that loads as it stands; the names in it are examples.
- References are public lists with stable numbers: the OWASP Top 10s for MCP, for agentic applications and for language
  models, and CWE.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from .definition import Definition
from .profile import CATEGORIES, Category, RiskProfile
from .signals import Kind, signals


class Attack(NamedTuple):
    """One way to abuse tools.

    `categories` are those it abuses. `signals` are what it takes hold of: where there are any, a tool has to show one
    to be open to it. `policy` is a small document, as JSON, that stops it in the way that `stopped_by` says.
    `references` are keys of `REFERENCES`.
    """

    id: str
    title: str
    what: str
    categories: tuple[Category, ...]
    signals: tuple[Kind, ...]
    stopped_by: str
    policy: str
    references: tuple[str, ...]


REFERENCES: Final = {
    "MCP01:2025": "Token Mismanagement & Secret Exposure",
    "MCP02:2025": "Privilege Escalation via Scope Creep",
    "MCP03:2025": "Tool Poisoning",
    "MCP04:2025": "Software Supply Chain Attacks & Dependency Tampering",
    "MCP05:2025": "Command Injection & Execution",
    "MCP06:2025": "Intent Flow Subversion",
    "MCP07:2025": "Insufficient Authentication & Authorization",
    "MCP09:2025": "Shadow MCP Servers",
    "MCP10:2025": "Context Injection & Over-Sharing",
    "ASI01": "Agent Goal Hijack",
    "ASI02": "Tool Misuse & Exploitation",
    "ASI03": "Identity & Privilege Abuse",
    "ASI04": "Agentic Supply Chain Vulnerabilities",
    "ASI05": "Unexpected Code Execution",
    "ASI08": "Cascading Failures",
    "ASI09": "Human-Agent Trust Exploitation",
    "LLM01:2025": "Prompt Injection",
    "LLM02:2025": "Sensitive Information Disclosure",
    "LLM06:2025": "Excessive Agency",
    "LLM10:2025": "Unbounded Consumption",
    "CWE-22": "Path Traversal",
    "CWE-78": "OS Command Injection",
    "CWE-89": "SQL Injection",
    "CWE-209": "Error Message Containing Sensitive Information",
    "CWE-441": "Unintended Proxy or Intermediary ('Confused Deputy')",
    "CWE-918": "Server-Side Request Forgery (SSRF)",
}
"""The public entries that patterns refer to, with their titles."""

MOST: Final = 5
"""Most patterns that are named for one tool."""

LEAST: Final = 3
"""Fewest patterns that are named for one tool: what can be done through any tool fills up."""

ATTACKS: Final[tuple[Attack, ...]] = (
    Attack(
        "unauthorised-payment",
        "Unauthorised payment",
        "An agent that was misled or has misread its task pays, refunds or trades with amounts and receivers of "
        "somebody else's choosing. Money that has left is seldom got back.",
        ("financial",),
        (),
        "Every payment is approved by a person who sees exactly this call, and amounts above a bound are refused "
        "outright.",
        '{"version": "1", "tools": {"create_refund": {"action": "approve", '
        '"require": [{"path": "args.amount", "op": "lte", "value": 100}]}}}',
        ("ASI02", "ASI09", "LLM06:2025"),
    ),
    Attack(
        "irreversible-destruction",
        "Irreversible destruction",
        "One wrong call deletes, overwrites or shuts down what cannot be restored. The agent may mean well: a wrong "
        "identifier or a wrong environment is enough.",
        ("destructive",),
        (),
        "Deleting waits for the approval of exactly this call, which is used once and runs out; what no agent should "
        "delete at all is denied.",
        '{"version": "1", "tools": {"delete_*": {"action": "approve", "approval": {"ttl": 600}}, '
        '"drop_*": {"action": "deny", "reason": "databases are dropped by hand"}}}',
        ("ASI02", "LLM06:2025"),
    ),
    Attack(
        "exfiltration-outbound",
        "Exfiltration through outgoing calls",
        "An agent that has read something private is led to put it into a message, an upload or an address that an "
        "attacker receives. The call looks like ordinary work; only its receiver gives it away.",
        ("write", "execute"),
        ("recipient", "url", "open world"),
        "Receivers and hosts are limited to known ones, and the number of calls is bounded.",
        '{"version": "1", "tools": {"send_message": {"rate_limit": "10/hour", '
        '"require": [{"path": "args.to", "op": "in", "value": ["team@example.com"]}]}}}',
        ("ASI01", "MCP10:2025", "LLM02:2025"),
    ),
    Attack(
        "exfiltration-read",
        "Exfiltration through reads",
        "Calls that are harmless one by one are repeated until a whole project, mailbox or database has gone through "
        "the model. What was read can leave by any other channel that the agent has.",
        ("read",),
        (),
        "Only the reads that the task needs are listed, and a limit per session bounds how much one run can gather.",
        '{"version": "1", "tools": {"get_*": {"rate_limit": {"max": 60, "window": 3600}}, '
        '"export_*": {"action": "deny"}}}',
        ("MCP10:2025", "LLM02:2025"),
    ),
    Attack(
        "argument-injection",
        "Command and query injection",
        "Text that came from a document or a web page ends up inside a command line, a script or a query, and runs "
        "with the rights of the server. Whoever wrote that text then does whatever the server can do.",
        ("execute", "write"),
        ("command", "query"),
        "What may run is listed in full and nothing else does, or every call is approved; the server's own account "
        "should have no more rights than the task needs.",
        '{"version": "1", "tools": {"run_command": {"require": [{"path": "args.command", "op": "in", '
        '"value": ["git status", "git diff", "make test"]}]}}}',
        ("MCP05:2025", "ASI05", "CWE-78", "CWE-89"),
    ),
    Attack(
        "path-traversal",
        "Path traversal",
        "A path such as `../../.ssh/id_rsa`, or an absolute one, leads the tool out of the folder that it was meant to "
        "work in. Keys are read, or files that run later are written.",
        ("read", "write", "execute", "destructive"),
        ("path",),
        "Paths have to stay within named folders after `.` and `..` are resolved; links on the disk remain the "
        "server's concern.",
        '{"version": "1", "tools": {"read_file": {"require": [{"path": "args.path", "op": "within", '
        '"value": "/workspace"}]}}}',
        ("MCP05:2025", "ASI02", "CWE-22"),
    ),
    Attack(
        "server-side-request-forgery",
        "Server-side request forgery",
        "The tool fetches an address that the agent was given, from inside the network where the server runs. Metadata "
        "services and internal pages answer, as they trust whoever stands there.",
        ("read", "write", "execute"),
        ("url",),
        "Only listed hosts may be asked; names that resolve elsewhere have to be stopped by the network of the server.",
        '{"version": "1", "tools": {"fetch": {"require": [{"path": "args.url", "op": "host_in", '
        '"value": ["docs.example.com", "*.example.org"]}]}}}',
        ("ASI02", "CWE-918"),
    ),
    Attack(
        "indirect-prompt-injection",
        "Indirect prompt injection",
        "What the tool brings in was written by others, and some of it is addressed to the model: go there, send this, "
        "ignore that. The model cannot tell such text from its task, and acts with every tool that it has.",
        ("read", "execute"),
        ("foreign text", "url", "open world"),
        "Text cannot be made harmless, so what it can cause is: sources are limited, and everything beyond reading is "
        "limited, approved or denied.",
        '{"version": "1", "categories": {"read": {"rate_limit": "30/minute"}, "write": {"action": "approve"}, '
        '"execute": {"action": "deny"}, "destructive": {"action": "deny"}, "financial": {"action": "deny"}}}',
        ("MCP06:2025", "ASI01", "LLM01:2025"),
    ),
    Attack(
        "credential-leak",
        "Credentials in outputs and errors",
        "Keys and tokens come back in settings, logs, environment dumps or the text of an error, and stay in the "
        "context of the model. From there they reach transcripts, other tools and whoever can make the agent talk.",
        ("read", "write", "execute"),
        ("secret", "command", "path"),
        "Files and calls that hold secrets are denied; the engine's own refusals never repeat an argument, but what a "
        "server answers is the server's to clean.",
        '{"version": "1", "tools": {"read_file": {"deny_if": [{"path": "args.path", "op": "glob", '
        '"value": ["*.env*", "*.ssh*", "*credentials*"]}]}}}',
        ("MCP01:2025", "LLM02:2025", "CWE-209"),
    ),
    Attack(
        "excessive-agency",
        "More power than the task needs",
        "One tool does many things, or has a switch that does more, and a permission for the harmless use covers the "
        "dangerous one. An agent that is stuck will try the switch.",
        ("write", "execute", "destructive"),
        ("actions", "force"),
        "The permitted values are listed; every other one is refused or asks for approval.",
        '{"version": "1", "tools": {"manage_pods": {"require": [{"path": "args.action", "op": "in", '
        '"value": ["get", "list"]}]}}}',
        ("MCP02:2025", "ASI03", "LLM06:2025"),
    ),
    Attack(
        "consent-fatigue",
        "Worn-out approval",
        "Asked too often, people approve without reading, and one dangerous call hides among many harmless ones. Some "
        "clients also let an approval stand for later calls that nobody has seen.",
        ("execute", "destructive", "financial"),
        (),
        "A person is asked only where it matters, about one exact call, and the approval is used once and runs out; "
        "the rest is decided by limits and bounds.",
        '{"version": "1", "tools": {"create_charge": {"approve_if": [{"path": "args.amount", "op": "gt", "value": '
        '100}], "deny_if": [{"path": "args.amount", "op": "gt", "value": 1000}], "rate_limit": "5/hour"}}}',
        ("ASI09", "LLM06:2025"),
    ),
    Attack(
        "runaway-loop",
        "Runaway loop",
        "An agent that does not get the answer it expects calls the same tool again and again, in seconds and without "
        "end. Quotas, bills and the service behind the tool pay for it.",
        ("read", "write", "execute"),
        (),
        "A limit per session stops the loop after a known number of calls, also of calls that fail, and tells the "
        "agent when it may go on.",
        '{"version": "1", "tools": {"search": {"rate_limit": {"max": 10, "window": 60}}}}',
        ("ASI08", "LLM10:2025"),
    ),
    Attack(
        "confused-deputy",
        "Confused deputy and mis-redeemed tokens",
        "The server acts with its own broad rights for a caller who has fewer, or accepts a token that was issued for "
        "another service. What the caller may not do, the server then does for them.",
        ("write", "execute", "destructive", "financial"),
        (),
        "Calls are tied to the authenticated caller: its issuer, its scopes, and arguments that have to name that "
        "caller; checking a token's audience stays with whoever authenticates.",
        '{"version": "1", "tools": {"update_profile": {"require": ['
        '{"path": "principal.issuer", "op": "eq", "value": "https://login.example.com"}, '
        '{"path": "principal.scopes", "op": "contains", "value": "profile:write"}, '
        '{"path": "args.user_id", "op": "eq", "value_from": "principal.id"}]}}}',
        ("MCP01:2025", "MCP07:2025", "ASI03", "CWE-441"),
    ),
    Attack(
        "tool-poisoning",
        "Tool poisoning",
        "A tool's description or schema holds instructions to the model, often where people do not look or cannot see "
        "them. They work as soon as the tool is listed, before it is ever called.",
        CATEGORIES,
        (),
        "Tools that are not listed are not shown to the agent, so their descriptions never reach the model; those that "
        "are listed should be scanned first.",
        '{"version": "1", "default": "deny", "tools": {"get_task_info": {}, "list_tasks": {}}}',
        ("MCP03:2025", "ASI01", "LLM01:2025"),
    ),
    Attack(
        "rug-pull",
        "Rug pull",
        "A server that was harmless when somebody agreed to it changes a description, a parameter or a meaning "
        "afterwards. The name stays, so that permissions by name go on.",
        CATEGORIES,
        (),
        "Fingerprints of the reviewed definitions are kept and compared (`mcp-policy scan --check`), and permissions "
        "by category stop applying to a tool whose definition has changed.",
        '{"version": "1", "default": "deny", "categories": {"read": {"rate_limit": "60/minute"}}}',
        ("MCP03:2025", "MCP04:2025", "ASI04"),
    ),
    Attack(
        "tool-shadowing",
        "Shadowed names",
        "A second server offers a tool of the same or nearly the same name, or describes how the first server's tools "
        "should be used. The agent then calls the wrong one, with data that was meant for the right one.",
        CATEGORIES,
        (),
        "Rules stand under the server that they are meant for, so a name that another server offers is not covered.",
        '{"version": "1", "default": "deny", "servers": {"github": {"tools": {"create_issue": '
        '{"rate_limit": "10/hour"}}}}}',
        ("MCP03:2025", "ASI04"),
    ),
    Attack(
        "server-supply-chain",
        "Supply chain of servers",
        "The package behind a server, or one that it depends on, is taken over or imitated under a similar name. "
        "It runs on your machine with your credentials, whatever its tools seem to be.",
        CATEGORIES,
        (),
        "Servers that nobody reviewed are denied as a whole and versions are pinned; what a process does outside of "
        "its tools has to be confined by the system.",
        '{"version": "1", "default": "deny", "servers": {"clearml": {"tools": {"get_*": {}, "list_*": {}}}}}',
        ("MCP04:2025", "MCP09:2025", "ASI04"),
    ),
)
"""The reviewed patterns, from the most particular to those that any tool is open to."""


def attacks_on(profile: RiskProfile, definition: Definition | None = None) -> tuple[Attack, ...]:
    """Return the patterns that a tool is open to, the most pertinent first: `LEAST` to `MOST` of them.

    Pertinent is what takes hold of more of the tool's signals, then what abuses fewer categories. Without the
    definition, the tool's name alone gives signals.
    """
    kinds = {signal.kind for signal in signals(profile.tool, definition)}
    ranked = sorted(ATTACKS, key=lambda attack: -_pertinence(attack, profile.category, kinds))
    particular = [attack for attack in ranked if _pertinence(attack, profile.category, kinds) > 0]
    general = [attack for attack in ranked if _pertinence(attack, profile.category, kinds) == 0]
    return tuple((particular + general[: max(0, LEAST - len(particular))])[:MOST])


def _pertinence(attack: Attack, category: Category, kinds: set[Kind]) -> int:
    """Return 0 for what any tool is open to, more for what this one is, and -1 for what it is not open to."""
    held = len(kinds.intersection(attack.signals))
    if category not in attack.categories or (attack.signals and not held):
        return -1
    return 3 * min(held, 2) + len(CATEGORIES) - len(attack.categories)
