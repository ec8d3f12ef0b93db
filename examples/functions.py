"""A policy around plain functions: what runs, what does not, and what waits for a person."""

from __future__ import annotations

from pathlib import Path

from mcp_policy import Guard, Policy, PolicyDenied, PolicyEngine

engine = PolicyEngine(Policy.load(Path(__file__).with_name("policy.json")))
guard = Guard(engine, session=lambda: "this terminal")


@guard
def send_mail(to: str, text: str) -> str:
    """Pretend to send a mail."""
    return f"sent to {to}"


@guard
def delete_file(path: str) -> str:
    """Pretend to delete a file."""
    return f"deleted {path}"


def main() -> None:
    """Call both, as an agent would."""
    print(send_mail("ann@example.com", text="hello"))
    try:
        send_mail("eve@elsewhere.net", text="hello")
    except PolicyDenied as denied:
        print(denied)

    try:
        delete_file("/srv/shared/old.txt")
    except PolicyDenied as denied:
        print(denied)
        waiting = denied.decision.approval
    if waiting is not None:
        engine.approve(waiting.id, by="reviewer")
    print(delete_file("/srv/shared/old.txt"))

    with guard.call("send_mail", {"to": "bob@example.com", "text": "hi"}) as arguments:
        print(f"a block of code that may send {arguments['text']!r}")


if __name__ == "__main__":
    main()
