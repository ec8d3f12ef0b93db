"""Sentences of a definition that tell the model what to do, rather than what the tool does.

Rules kept here:

- A sentence has to have the whole shape of an instruction that attacks use: to set other instructions aside, to keep
  something from the user, to hand over what the tool has no business with, to put itself in the place of others.
  That a tool asks for another one of its server to be called first is ordinary, and no find.
- No expression has a repetition inside a repetition, and every gap has a bound: time is linear in the text.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import Final, NamedTuple

from .hidden import Find


class _Rule(NamedTuple):
    code: str
    message: str
    hints: tuple[str, ...]  # one of these has to be in the text, in lower case, before it is searched
    pattern: re.Pattern[str]


def instructions(text: str) -> Iterator[Find]:
    """Yield the sentences that instruct a model."""
    plain = text if text.isascii() else unicodedata.normalize("NFKC", text).replace("’", "'")
    lowered = plain.lower()
    for rule in _RULES:
        if any(hint in lowered for hint in rule.hints) and (found := rule.pattern.search(plain)):
            yield Find(rule.code, found[0], rule.message)


_S: Final = r"\W{1,6}"  # what stands between two words
_USER: Final = rf"(?:(?:the|your|any|this){_S})?(?:user|users|human|humans|operator|anyone|anybody|person)\b"
_NOT: Final = rf"\b(?:do{_S}not|don't|never|must{_S}not|should{_S}not|without|avoid)(?:{_S}ever)?{_S}"
_SECRETS: Final = (
    r"(?:~?/?\.ssh\b|\bid_(?:rsa|ed25519|ecdsa)\b|/etc/(?:passwd|shadow)\b|\bmcp\.json\b|\bclaude_desktop_config\b"
    r"|\.git-credentials\b|\.aws/credentials\b|\.gnupg\b|\bbrowser{_S}cookies\b)"
).replace("{_S}", _S)


def _rule(code: str, message: str, hints: str, pattern: str) -> _Rule:
    return _Rule(code, message, tuple(hints.split(",")), re.compile(pattern, re.IGNORECASE))


_RULES: Final = (
    _rule(
        "override",
        "tells the model to set other instructions aside",
        "ignore,disregard,forget,override,bypass",
        rf"\b(?:ignore|disregard|forget|override|bypass)\b{_S}(?:\w{{1,20}}{_S}){{0,3}}?"
        rf"(?:previous|prior|above|earlier|preceding|original|your|all|any|user's|system|safety){_S}(?:\w{{1,20}}{_S}){{0,2}}?"
        r"(?:instructions?|directives?|guidelines?|guardrails?|system\W{1,3}prompts?|previous\W{1,3}prompts?)\b",
    ),
    _rule(
        "override",
        "gives the model a new role or new instructions",
        "you are now,new instruction,everything above,everything before,system instruction",
        r"\byou are now (?:in|an?|the|my)\b|\bnew (?:system )?instructions?\s{0,3}:"
        r"|\bsystem instructions?\s{0,3}:|\b(?:ignore|forget|disregard) everything (?:above|before)",
    ),
    _rule(
        "secrecy",
        "tells the model to keep something from the user",
        "tell,inform,notify,alert,warn",
        rf"{_NOT}(?:tell|inform|notify|alert|warn)(?:ing)?{_S}{_USER}"
        r"(?=\W{0,3}(?:about|that|of|what|why|how|you|this|it)\b|\W{0,2}(?:[.,;:!)\n]|$))",
    ),
    _rule(
        "secrecy",
        "tells the model to keep something from the user",
        "mention,reveal,disclos,expos,hide,hidden,secret,keep,know,notic",
        rf"{_NOT}(?:mention|reveal|disclos|expos)(?:e|ing)?{_S}(?:\w{{1,20}}{_S}){{0,5}}?to{_S}{_USER}"
        rf"|\b(?:hide|hidden|secret|keep){_S}(?:\w{{1,20}}{_S}){{0,4}}?from{_S}{_USER}"
        rf"|\bwithout{_S}{_USER}(?:'s)?{_S}(?:knowing|knowledge|noticing)\b",
    ),
    _rule(
        "secrecy",
        "tells the model to do something unseen",
        "silently,secretly,covertly,discreetly,quietly",
        rf"\b(?:silently|secretly|covertly|discreetly|quietly){_S}(?:send|forward|copy|upload|read|include|bcc|append|call|use)\b",
    ),
    _rule(
        "ordering",
        "wants to come before every other tool",
        "before",
        rf"\bbefore{_S}(?:(?:using|calling|running|executing|invoking|performing){_S})?(?:any|every|each|all){_S}"
        rf"(?:of{_S}the{_S})?(?:other{_S})?(?:tools?|functions?|tool{_S}calls?)\b",
    ),
    _rule(
        "ordering",
        "wants to be called always",
        "always,must",
        rf"\b(?:always|must)(?:{_S}first)?{_S}(?:use|call|run|invoke|prefer|choose|select){_S}(?:this|me)(?:{_S}(?:tool|function))?{_S}"
        rf"(?:first\b|no{_S}matter|regardless|instead{_S}of{_S}(?:any|all|every|other)|over{_S}(?:any|all|every|other)"
        rf"|before{_S}(?:any|every|each|all|anything)|(?:for|on|after|with|in){_S}(?:any|every|each|all){_S}"
        r"(?:requests?|messages?|responses?|questions?|conversations?|tasks?|prompts?)\b)",
    ),
    _rule(
        "secret_files",
        "sends the model to files that hold secrets",
        "ssh,id_rsa,id_ed25519,id_ecdsa,passwd,shadow,mcp.json,claude_desktop_config,credentials,gnupg,cookies",
        rf"\b(?:read|open|cat|copy|include|attach|send|dump|upload|steal|contents?{_S}of)\b[^\n]{{0,60}}?{_SECRETS}",
    ),
    _rule(
        "disclosure",
        "asks the model to hand over what it knows",
        "conversation,chat,system prompt,system message,previous messages,private key,ssh key,context window",
        rf"\b(?:include|pass|put|send|provide|attach|append|copy|insert|forward|paste|summari[sz]e){_S}(?:\w{{1,20}}{_S}){{0,6}}?"
        rf"(?:(?:full|entire|whole|complete|previous|prior|all){_S}(?:of{_S}the{_S})?(?:conversation|chat|messages)\b"
        rf"|(?:conversation|chat){_S}(?:history|log|transcript)\b|(?:your|the){_S}system{_S}(?:prompt|message)\b"
        rf"|(?:the|your|user's){_S}(?:private|ssh){_S}keys?\b)",
    ),
    _rule(
        "forwarding",
        "tells the model to send data to an address",
        "http,@",
        rf"\b(?:send|forward|post|upload|copy|bcc|cc|email|deliver|transmit|exfiltrate){_S}(?:\w{{1,20}}{_S}){{0,2}}?"
        rf"(?:all|every|everything|each|any|copy|copies|contents?)\b[^\n]{{0,80}}?\bto{_S}(?:\w{{1,20}}{_S}){{0,2}}?"
        r"(?:https?://\S{4}|[\w.+-]{1,60}@(?!example\.)[\w-]{1,60}\.\w)",
    ),
    _rule(
        "shadowing",
        "puts itself in the place of other tools",
        "instead of,rather than,in place of,replaces,supersedes,precedence",
        rf"\b(?:instead{_S}of|rather{_S}than|in{_S}place{_S}of){_S}(?:using|calling|invoking){_S}(?:the|any|other|your|every|all){_S}"
        rf"(?!this\b|same\b)(?:\w{{1,40}}{_S}){{0,3}}?tools?\b"
        rf"|\bthis{_S}(?:tool{_S})?(?:replaces|supersedes|overrides){_S}(?:all|any|every|the|other){_S}(?:\w{{1,40}}{_S}){{0,3}}?tools?\b"
        rf"|\btakes?{_S}precedence{_S}over{_S}(?:all|any|every|other|the){_S}(?:\w{{1,20}}{_S}){{0,2}}?(?:tools?|instructions?)\b",
    ),
    _rule(
        "shadowing",
        "tells the model how to use other tools",
        "is called,is used,is invoked,is available,is present,being called",
        rf"\b(?:when|whenever|if|every{_S}time|each{_S}time){_S}(?:the{_S}|an?{_S}|any{_S}|other{_S})?(?!this\b|that\b|it\b)\w{{2,60}}{_S}tool"
        rf"{_S}is{_S}(?:being{_S})?(?:called|used|invoked|available|present)\b",
    ),
    _rule(
        "shadowing",
        "tells the model not to use other tools",
        "use",
        rf"\b(?:do{_S}not|don't|never|must{_S}not){_S}(?:use|call|invoke){_S}(?:the{_S}|any{_S}|other{_S})(?!this\b|same\b)"
        rf"(?:\w{{1,60}}{_S}){{0,4}}?tools?\b(?!{_S}(?:to|for|if|when|more|unless|with|in|directly|result))",
    ),
)
