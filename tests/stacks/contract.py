"""What every stack promises, whatever it is built on, however it is reached, and whichever protocol era its client speaks.

A test module names its places and subclasses: `there = opened(PLACES)`, `class TestStacks(Contract)`; `HttpContract` is for
places over HTTP.
"""

from __future__ import annotations

import gzip
import json
from collections import Counter
from contextlib import suppress
from typing import Any

import pytest

from stacks.talk import APPROVES, DECLINES, Answer, Person
from stacks.tools import NOTES

ALL = {"ls": {}, "rm": {}, "transfer": {}, "slow": {}, "failing": {}, "grow": {}}
ROOT_STAYS = {"rm": {"deny_if": [{"path": "args.path", "op": "eq", "value": "/", "reason": "the root stays"}]}}
AT_MOST_100 = {"transfer": {"deny_if": [{"path": "args.amount", "op": "gt", "value": 100, "reason": "too much"}]}}
ASKED_ABOUT = {"rm": {"action": "approve", "reason": "what is gone is gone"}, "ls": {}}
X = {"path": "/tmp/x"}
MARKS = {"deny": "[POLICY DENIED] ", "limit": "[POLICY LIMIT] ", "approve": "[POLICY APPROVAL REQUIRED] "}


def limited(most: int, **more: Any) -> dict[str, Any]:
    return {"rate_limit": {"max": most, "window": 3600, **more}}


def refused(there: Any, answer: Answer, effect: str, *codes: str) -> str:
    """Check that an answer is a refusal in the form that clients can read, and return its text."""
    assert answer.is_error
    assert answer.structured is None
    assert [part["type"] for part in answer.raw["content"]] == ["text"]
    assert answer.text.startswith(MARKS[effect])
    if "facts" in there.place.lacks:
        assert answer.meta == {}
    else:
        assert answer.facts is not None
        assert answer.facts["effect"] == effect
        assert answer.facts["codes"] == list(codes)
    return answer.text


def asks(there: Any) -> bool:
    return not ("questions" in there.place.lacks and there.place.era == "legacy")


def approval_id(text: str) -> str:
    return text.rpartition("Approval id: ")[2]


ACCEPT = {"accept": "application/json, text/event-stream", "content-type": "application/json"}
MODERN = "2026-07-28"
HELLO = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "raw", "version": "1"}}
META = {"io.modelcontextprotocol/protocolVersion": MODERN, "io.modelcontextprotocol/clientCapabilities": {}}


def body(params: dict[str, Any]) -> bytes:
    message = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {**params, "_meta": META}}
    return json.dumps(message).encode()


def posted(there: Any, content: bytes, headers: dict[str, str]) -> str:
    """Send a body as it is, in the place's era, and return what came back."""
    with there.place.clients.httpx.Client(headers=ACCEPT, timeout=30, verify=False) as client:
        if there.place.era == "legacy":
            answer = client.post(there.url, json={"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": HELLO})
            session = {"mcp-protocol-version": "2025-06-18", "mcp-session-id": answer.headers["mcp-session-id"]}
            client.headers.update(session)
            client.post(there.url, json={"jsonrpc": "2.0", "method": "notifications/initialized"})
        else:
            name = "rm" if b"rm" in content else "ls"
            client.headers.update({"mcp-protocol-version": MODERN, "mcp-method": "tools/call", "mcp-name": name})
        return client.post(there.url, content=content, headers=headers).text


class Contract:
    """What holds at every place."""

    # -- answers

    def test_an_allowed_call_runs_with_the_arguments_that_were_judged(self, there):
        there.begin(tools=ALL | AT_MOST_100)
        answer = there.call("transfer", {"amount": 5})
        assert (answer.text, answer.is_error) == ("moved 5", False)
        assert there.world.judged == there.world.ran == [["transfer", {"amount": 5}]]

    def test_an_allowed_call_is_answered_as_without_the_guard(self, there):
        there.begin(tools=ALL)
        for call in (("ls", X), ("transfer", {"amount": 5}), ("failing", {}), ("transfer", {})):
            assert there.call(*call) == there.bare.call(*call)

    def test_a_denied_call_says_why_and_does_not_run(self, there):
        there.begin(tools=ALL | ROOT_STAYS)
        assert refused(there, there.call("rm", {"path": "/"}), "deny", "deny_if") == "[POLICY DENIED] the root stays."
        assert there.call("rm", X).text == "gone /tmp/x"
        assert there.world.ran == [["rm", X]]

    def test_what_the_policy_does_not_list_is_denied(self, there):
        there.begin(tools={"ls": {}})
        refused(there, there.call("rm", X), "deny", "default_deny")
        assert there.world.ran == []

    def test_a_hidden_tool_is_an_unknown_one(self, there):
        there.begin(default="allow", hide=["secret"])
        hidden = there.call("secret")
        unknown = there.call("zecret")
        if "words" not in there.place.lacks:
            assert unknown == there.bare.call("zecret"), "and nothing tells that there is a guard"
        assert unknown.is_error
        assert json.dumps(hidden.raw) == json.dumps(unknown.raw).replace("zecret", "secret")
        assert there.world.ran == []

    def test_a_hidden_tool_stays_one_whatever_it_is_called_with(self, there):
        there.begin(default="allow", hide=["rm"])
        for arguments in ({}, {"path": 5}, X, {"path": "x", "more": [[]]}):
            hidden = json.dumps(there.call("rm", arguments).raw)
            assert hidden == json.dumps(there.call("zm", arguments).raw).replace("zm", "rm")
        assert there.world.ran == []

    # -- lists

    def test_lists_show_what_may_ever_be_called(self, there):
        there.begin(hide=["secret"], tools=ALL | ROOT_STAYS | {"slow": {"action": "deny"}, "secret": {}})
        assert there.listed() == ["ls", "rm", "transfer", "failing", "grow"]

    def test_what_is_listed_is_as_without_the_guard(self, there):
        there.begin(tools=ALL)
        shown = {tool["name"]: tool for tool in there.ask("tools/list")["tools"]}
        whole = {tool["name"]: tool for tool in there.bare.ask("tools/list")["tools"]}
        assert whole.pop("secret")["name"] == "secret"
        assert shown == whole

    def test_filtered_lists_are_private(self, there):
        there.begin(tools=ALL)
        listed = there.ask("tools/list")
        assert listed.get("cacheScope") == (None if there.place.era == "legacy" else "private")

    def test_a_list_does_not_change_by_calls(self, there):
        there.begin(tools={"ls": limited(1), "rm": limited(0), "transfer": {"action": "approve"}})
        before = there.ask("tools/list")
        assert [tool["name"] for tool in before["tools"]] == ["ls", "rm", "transfer"]
        answers = [there.call(*call) for call in (("ls", X), ("ls", X), ("rm", X), ("transfer", {"amount": 1}))]
        assert [answer.is_error for answer in answers] == [False, True, True, True]
        assert there.ask("tools/list") == before

    def test_lists_take_nothing_and_each_call_is_decided_once(self, there):
        there.begin(tools={"ls": limited(2)})
        there.listed()
        answers = [there.call("ls", X), there.call("ls", X)]
        there.listed()
        answers.append(there.call("ls", X))
        assert [answer.is_error for answer in answers] == [False, False, True]
        assert there.world.judged == [["ls", X]] * 3

    # -- arguments

    @pytest.mark.parametrize(
        "amount", ["5", "500", True, "NaN", "Infinity", [5], {"is": 5}, float("nan"), float("inf")]
    )
    def test_what_would_be_made_a_number_is_none(self, there, amount):
        there.begin(tools={"transfer": {"require": [{"path": "args.amount", "op": "lte", "value": 100}]}})
        answer = there.call("transfer", {"amount": amount})
        code = "require" if isinstance(amount, float) else "type_mismatch"  # on the wire there is no NaN: it is null
        refused(there, answer, "deny", code)
        assert there.world.ran == []

    @pytest.mark.parametrize(
        "params",
        [
            {"name": "rm", "arguments": [X]},
            {"name": "rm", "arguments": "/tmp/x"},
            {"name": "rm", "arguments": None},
            {"name": "rm"},
            {"name": ["rm"], "arguments": X},
            {"name": None, "arguments": X},
            {"Name": "rm", "arguments": X},
            {"name": "rm ", "arguments": X},
            {"name": "rm\u0000", "arguments": X},
            {"name": "RM", "arguments": X},
            {"name": "", "arguments": X},
            {"name": "x" * 10_000, "arguments": X},
            {"name": "rm", "arguments": {"path": ["/"]}},
            {"name": "rm", "arguments": {"path": "/tmp/x", "Path": "/"}},
            {},
        ],
        ids=str,
    )
    def test_what_is_malformed_never_runs(self, there, params):
        there.begin(tools=ALL | {"rm": {"require": [{"path": "args.path", "op": "eq", "value": "/only/this"}]}})
        if there.place.transport == "http":  # by hand: clients would not send it, or wait for ever where it is refused
            posted(there, body(params), {})
        else:
            with suppress(Exception):  # the client may well refuse to send it
                there.ask("tools/call", params)
        assert there.world.ran == []
        assert there.call("ls", X).text == "/tmp/x", "and the server is as it was"

    # -- limits

    def test_of_parallel_calls_a_limit_admits_exactly_its_number(self, there):
        there.begin(tools={tool: limited(50, counter="both") for tool in ("ls", "slow")})
        answers = there.calls([("ls" if number % 2 else "slow", {"path": str(number)}) for number in range(200)])
        effects = Counter(answer.is_error for answer in answers)
        assert effects == {False: 50, True: 150}
        assert len(there.world.ran) == 50
        assert {answer.text.partition("] ")[0] for answer in answers if answer.is_error} == {"[POLICY LIMIT"}

    def test_a_limit_says_when_to_come_again(self, there):
        there.begin(tools={"ls": limited(1, reason="once an hour")})
        there.call("ls", X)
        answer = there.call("ls", X)
        assert refused(there, answer, "limit", "rate_limited") == "[POLICY LIMIT] once an hour. Retry in 3600 s."
        if "facts" not in there.place.lacks:
            assert answer.facts["retry_after"] == 3600

    def test_a_failed_call_gets_back_what_it_took_where_the_policy_says_so(self, there):
        there.begin(tools={"failing": limited(1, refund_on_error=True)})
        assert [there.call("failing").text.startswith("[POLICY") for _ in range(3)] == [False] * 3
        assert len(there.world.ran) == 3

    def test_a_failed_call_counts_elsewhere(self, there):
        there.begin(tools={"failing": limited(1)})
        assert [there.call("failing").text.startswith("[POLICY") for _ in range(3)] == [False, True, True]
        assert len(there.world.ran) == 1

    # -- identity

    def test_what_a_client_says_of_itself_is_no_identity(self, there):
        there.begin(tools={"ls": limited(2), "slow": limited(2, per="principal")})
        for tool in ("ls", "slow"):
            answers = [
                there.call(tool, X, {"session": f"s{n}", "user": f"u{n}", "principal": {"id": f"p{n}"}})
                for n in range(4)
            ]
            assert [answer.is_error for answer in answers] == [False, False, True, True]

    # -- approvals

    def test_an_approval_is_for_one_call(self, there):
        there.begin(tools=ASKED_ABOUT)
        waiting = refused(there, there.call("rm", X), "approve", "approval_required")
        assert waiting.startswith(MARKS["approve"] + "what is gone is gone. ")
        again = there.call("rm", X)
        assert approval_id(again.text) == approval_id(waiting), "it is the same question"
        assert there.world.ran == []
        there.world.approve(approval_id(waiting))
        assert there.call("rm", {"path": "/tmp/y"}).is_error, "it is for this very call"
        assert there.call("rm", X).text == "gone /tmp/x"
        after = refused(there, there.call("rm", X), "approve", "approval_required")
        assert approval_id(after) != approval_id(waiting)
        assert there.world.ran == [["rm", X]]

    def test_a_person_at_the_client_is_asked_in_the_middle_of_the_call(self, there):
        there.begin(tools=ASKED_ABOUT)
        there.person.says = APPROVES
        answers = [there.call("rm", X) for _ in range(2)]
        if not asks(there):
            assert "cannot be asked" in refused(there, answers[0], "approve", "approval_required")
            assert there.world.ran == there.person.questions == []
            return
        assert [answer.text for answer in answers] == ["gone /tmp/x"] * 2
        assert len(there.person.questions) == 2, "each time anew"
        assert "what is gone is gone" in there.person.questions[0]
        assert there.world.ran == [["rm", X]] * 2

    def test_a_person_at_the_client_says_no(self, there):
        there.begin(tools=ASKED_ABOUT)
        there.person.says = DECLINES
        for _ in range(2):
            refused(there, there.call("rm", X), "approve", "approval_rejected" if asks(there) else "approval_required")
        assert len(there.person.questions) == asks(there), "once is enough"
        assert there.world.ran == []

    @pytest.mark.parametrize(
        "says", [("cancel", None), ("accept", {}), ("accept", {"approve": "true"}), ("accept", None)], ids=str
    )
    def test_no_proper_answer_is_none(self, there, says):
        there.begin(tools=ASKED_ABOUT)
        there.person.says = says
        text = refused(there, there.call("rm", X), "approve", "approval_required")
        assert "nobody has approved this call: " in text
        assert there.world.ran == []

    # -- while it runs

    def test_another_policy_applies_from_the_next_call_on(self, there):
        there.begin(tools=ALL)
        assert there.call("rm", X).text == "gone /tmp/x"
        there.world.reload(tools={"ls": {}})
        assert refused(there, there.call("rm", X), "deny", "default_deny")
        assert there.listed() == ["ls"]
        there.world.reload(default="allow", hide=["rm"])
        assert there.call("rm", X) == there.call("rm", X)
        assert json.dumps(there.call("rm", X).raw) == json.dumps(there.call("zm", X).raw).replace("zm", "rm")
        there.world.reload(tools=ALL)
        assert there.call("rm", X).text == "gone /tmp/x"
        assert len(there.world.ran) == 2

    def test_a_reload_keeps_the_counts(self, there):
        there.begin(tools={"ls": limited(2)})
        assert not there.call("ls", X).is_error
        there.world.reload(tools={"ls": limited(2), "rm": {}})
        assert [there.call("ls", X).is_error for _ in range(2)] == [False, True]

    def test_resources_and_prompts_are_as_without_the_guard(self, there):
        there.begin(tools={})
        for method, params in (
            ("resources/list", {}),
            ("resources/read", {"uri": NOTES}),
            ("resources/read", {"uri": "file:///none"}),
            ("prompts/list", {}),
            ("prompts/get", {"name": "greet", "arguments": {"who": "you"}}),
            ("prompts/get", {"name": "none", "arguments": {}}),
        ):
            assert there.ask(method, params) == there.bare.ask(method, params)
        assert there.world.judged == []

    def test_z_a_tool_that_comes_later_is_guarded(self, there):  # the last of all: the server has one more from now on
        there.begin(tools=ALL)
        assert "late" not in there.listed()
        assert there.call("grow").text == "grown"
        there.world.reload(tools=ALL)
        assert "late" not in there.listed()
        assert refused(there, there.call("late"), "deny", "default_deny")
        there.world.reload(default="allow", hide=["late"])
        assert json.dumps(there.call("late").raw) == json.dumps(there.call("lape").raw).replace("lape", "late")
        there.world.reload(tools=ALL | {"late": limited(1)})
        assert "late" in there.listed()
        assert [there.call("late").is_error for _ in range(2)] == [False, True]
        assert there.world.ran.count(["late", {}]) == 1


FINE = body({"name": "ls", "arguments": X})
EVIL = body({"name": "rm", "arguments": X})
BODIES: dict[str, tuple[bytes, dict[str, str]]] = {
    "denied": (EVIL, {}),
    "one name, then another": (FINE.replace(b'"name": "ls"', b'"name": "ls", "name": "rm"'), {}),
    "another name, then one": (FINE.replace(b'"name": "ls"', b'"name": "rm", "name": "ls"'), {}),
    "two params": (FINE.replace(b'"params"', b'"params": {"name": "rm", "arguments": {"path": "/"}}, "params"'), {}),
    "params in capitals": (EVIL.replace(b'"params"', b'"Params"'), {}),
    "a method in capitals": (EVIL.replace(b"tools/call", b"Tools/Call"), {}),
    "an escaped method": (EVIL.replace(b"tools/call", b"tools\\/call"), {}),
    "an escaped name": (EVIL.replace(b'"rm"', b'"\\u0072m"'), {}),
    "a batch": (b"[" + FINE + b"," + EVIL + b"]", {}),
    "two messages": (FINE + b"\n" + EVIL, {}),
    "utf-16": (EVIL.decode().encode("utf-16"), {}),
    "a byte order mark": (b"\xef\xbb\xbf" + EVIL, {}),
    "compressed": (gzip.compress(EVIL), {"content-encoding": "gzip"}),
    "plain text": (EVIL, {"content-type": "text/plain"}),
    "a header that names another tool": (EVIL, {"mcp-name": "ls"}),
    "a header of another method": (EVIL, {"mcp-method": "tools/list"}),
    "deep": (EVIL.replace(b'"/tmp/x"', b"[" * 5_000 + b"]" * 5_000), {}),
    "huge": (EVIL.replace(b"/tmp/x", b"x" * 6_000_000), {}),
}


class HttpContract:
    """What holds at every place over HTTP."""

    def test_what_is_sent_by_hand_is_answered(self, web):
        web.begin(tools=ALL)
        assert "/tmp/x" in posted(web, FINE, {})
        assert web.world.ran == [["ls", X]]

    @pytest.mark.parametrize("kind", BODIES)
    def test_the_body_that_is_judged_is_the_body_that_runs(self, web, kind):
        web.begin(tools={"ls": {}})
        posted(web, *BODIES[kind])
        judged, ran = web.world.judged, web.world.ran
        assert [call for call in ran if call not in judged or call[0] != "ls"] == []
        assert len(ran) <= len(judged)
        assert web.call("ls", X).text == "/tmp/x"

    def test_headers_are_no_identity(self, web):
        web.begin(tools={"ls": limited(2, per="principal"), "rm": limited(2)})
        answers, others = [], []
        for n in range(4):
            headers = {"x-user": f"u{n}", "x-forwarded-for": f"10.0.0.{n}", "authorization": f"Bearer t{n}"}
            if web.place.era == MODERN:
                headers["mcp-session-id"] = f"s{n}"
            with web.another(headers=headers) as call:
                answers.append(call("ls", X))
                others.append(call("rm", X))
        assert [answer.is_error for answer in answers] == [False, False, True, True]
        shared = web.place.era == MODERN  # else each connection has a session that the server issued
        assert [answer.is_error for answer in others] == [False, False, shared, shared]

    def test_a_session_that_the_server_did_not_issue_is_none(self, web):
        web.begin(tools={"ls": limited(1)})
        with web.place.clients.httpx.Client(headers=ACCEPT, timeout=30, verify=False) as client:
            for n in range(3):
                client.post(web.url, content=FINE, headers={"mcp-session-id": f"s{n}"})
        assert len(web.world.ran) <= 1

    def test_many_connections_share_one_limit(self, web):
        web.begin(tools={"ls": limited(2, per="global")})
        with web.another() as one, web.another(Person()) as other:
            answers = [call("ls", X) for call in (one, other, web.call)]
        assert [answer.is_error for answer in answers] == [False, False, True]

    def test_a_client_that_cannot_be_asked_gets_no_further(self, web):
        web.begin(tools=ASKED_ABOUT)
        with web.another() as call:
            text = refused(web, call("rm", X), "approve", "approval_required")
        assert "nobody has approved this call: " in text
        assert web.world.ran == []
