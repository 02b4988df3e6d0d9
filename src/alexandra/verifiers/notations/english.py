"""Facts and rules in plain sentences, read into a logic program: "If someone is cold and they like the lion then ...".

Understood: "The cow is (not) blue.", "Bob does not like the lion.", "If A and B then C.", "All cold, big people are
nice.", "Rough things are blue.". Anything else is refused with its sentence; nothing is guessed.
"""

from __future__ import annotations

import re

from alexandra.errors import VerifierError
from alexandra.verifiers.claims import Logic
from alexandra.verifiers.notations.horn import Atom, Rule

_ANYONE = ("something", "someone", "it", "they", "things", "people")
_GENERAL = re.compile(r"(?:all |)((?:[a-z]+, )*[a-z]+) (?:people|things) are (not |)([a-z]+)", re.IGNORECASE)
_IS = re.compile(r"(.+?) (?:is|are) (not |)([a-z]+)", re.IGNORECASE)
_DOES = re.compile(r"(.+?) (?:does|do) not ([a-z]+) (.+)", re.IGNORECASE)
_ACTS = re.compile(
    r"((?i:the) [a-z]+(?: [a-z]+)?|(?i:something|someone|it|they)|[A-Z][a-z]+)"
    r" (?!the\b)([a-z]+) (the [a-z ]+|[A-Z]\w*|it|them)"
)


def program(text: str) -> str:
    """The sentences of a text as clauses, in the notation of horn.py."""
    rules = [_rule(sentence) for sentence in _sentences(text)]
    return " ".join(_clause(rule) for rule in rules)


def claim(text: str, statement: str, answer: str) -> Logic:
    """The claim that `statement` is `answer` ("true", "false", "unknown") given the sentences of `text`."""
    (sentence,) = _sentences(statement)
    return Logic(program(text), _one(sentence, "").text(), answer)


def _sentences(text: str) -> list[str]:
    return [part.strip() for part in re.split(r"\.(?:\s+|$)", text) if part.strip()]


def _rule(sentence: str) -> Rule:
    lower = sentence[:1].lower() + sentence[1:]
    if lower.startswith("if "):
        condition, found, then = sentence[3:].partition(" then ")
        if not found:
            raise VerifierError(f"not a rule: {sentence!r}", hint="write: If A and B then C.")
        body: list[Atom] = []
        subject = ""
        for part in condition.split(" and "):
            if re.fullmatch(r"(not )?[a-z]+", part.strip()):
                part = f"{subject} is {part.strip()}"
            body.append(_one(part, sentence))
            subject = _subject(part)
        return Rule(_one(then, sentence), tuple(body))
    general = _GENERAL.fullmatch(sentence)
    if general:
        body = [Atom(word.lower(), ("X",)) for word in general[1].split(", ")]
        return Rule(Atom(general[3].lower(), ("X",), bool(general[2])), tuple(body))
    return Rule(_one(sentence, sentence))


def _subject(part: str) -> str:
    found = _IS.fullmatch(part) or _DOES.fullmatch(part) or _ACTS.fullmatch(part)
    return found[1] if found else part


def _one(part: str, sentence: str) -> Atom:
    text = part.strip().rstrip(".")
    found = _IS.fullmatch(text)
    if found:
        return Atom(found[3].lower(), (_term(found[1]),), bool(found[2]))
    found = _DOES.fullmatch(text)
    if found:
        return Atom(found[2].lower(), (_term(found[1]), _term(found[3])), True)
    found = _ACTS.fullmatch(text)
    if found:
        verb = found[2].lower()
        verb = verb[:-1] if verb.endswith("s") and not verb.endswith("ss") else verb
        return Atom(verb, (_term(found[1]), _term(found[3])))
    raise VerifierError(f"not understood: {part!r}" + (f" in {sentence!r}" if sentence else ""))


def _term(words: str) -> str:
    text = words.strip().lower()
    if text in _ANYONE or text == "them":
        return "X"
    return re.sub(r"\W+", "_", text.removeprefix("the "))


def _clause(rule: Rule) -> str:
    body = ", ".join(atom.text() for atom in rule.body)
    return rule.head.text() + (f" :- {body}." if body else ".")
