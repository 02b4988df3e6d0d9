"""Tool `lexicon`: terms of a lexicon in a text, all in one pass however large the lexicon (Aho and Corasick 1975).

Context: `lexicon`, terms that a text must not use, or term -> harm in 0..1. The matcher is native (csrc/lexicon.cpp);
without the engine it is a Python automaton of the same table. Only whole words count.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from alexandra.records import Claim, Verdict
from alexandra.verifiers.tool import SOFT, Tool, own_version

MAX_TERMS, KEPT = 200_000, 8
_matchers: OrderedDict[bytes, Any] = OrderedDict()


class Matcher(Protocol):
    def find(self, text: bytes) -> list[tuple[int, int]]:
        """(term's number, end) of every occurrence, by end."""
        ...


class Automaton:
    """The same automaton in Python: goto, failure and output, built by breadth-first search."""

    def __init__(self, terms: Sequence[bytes]) -> None:
        self._next: list[dict[int, int]] = [{}]
        self._out: list[list[int]] = [[]]
        self._fail = [0]
        for number, term in enumerate(terms):
            state = 0
            for byte in term:
                if byte not in self._next[state]:
                    self._next[state][byte] = len(self._next)
                    self._next.append({})
                    self._out.append([])
                    self._fail.append(0)
                state = self._next[state][byte]
            self._out[state].append(number)
        queue = deque(self._next[0].values())
        while queue:
            state = queue.popleft()
            for byte, following in self._next[state].items():
                queue.append(following)
                back = self._fail[state]
                while back and byte not in self._next[back]:
                    back = self._fail[back]
                self._fail[following] = self._next[back].get(byte, 0) if self._next[back].get(byte) != following else 0
                self._out[following] = self._out[following] + self._out[self._fail[following]]

    def find(self, text: bytes) -> list[tuple[int, int]]:
        state, found = 0, []
        for place, byte in enumerate(text, 1):
            while state and byte not in self._next[state]:
                state = self._fail[state]
            state = self._next[state].get(byte, 0)
            found += [(number, place) for number in self._out[state]]
        return found


def matcher(terms: Sequence[str]) -> Matcher:
    """The matcher of these terms, native where the engine is; the last few are kept."""
    coded = [" ".join(term.casefold().split()).encode() for term in terms]
    key = hashlib.blake2b(b"\0".join(coded), digest_size=16).digest()
    if key not in _matchers:
        try:
            from alexandra._native import Lexicon
        except ImportError:
            Lexicon = Automaton
        _matchers[key] = Lexicon(coded)
        while len(_matchers) > KEPT:
            _matchers.popitem(last=False)
    _matchers.move_to_end(key)
    found: Matcher = _matchers[key]
    return found


def occurrences(text: str, terms: Sequence[str]) -> list[int]:
    """The numbers of the terms that occur as whole words, by where they end."""
    coded = " ".join(text.casefold().split()).encode()
    lengths = [len(" ".join(term.casefold().split()).encode()) for term in terms]
    out = []
    for number, end in matcher(terms).find(coded):
        start = end - lengths[number]
        before, after = coded[start - 1 : start], coded[end : end + 1]
        if not (before.isalnum() or after.isalnum() or before >= b"\x80" or after >= b"\x80"):
            out.append(number)
    return out


def _applies(claim: Claim) -> str:
    return "" if claim.context.get("lexicon") else "the context has no lexicon"


def _judge(tool: Tool, claim: Claim) -> Verdict:
    given = claim.context["lexicon"]
    harms = {str(k): float(v) for k, v in given.items()} if isinstance(given, Mapping) else dict.fromkeys(given, 1.0)
    terms = [term for term in harms if str(term).strip()]
    if not 0 < len(terms) <= MAX_TERMS:
        return tool.abstains(f"it reads lexica of 1 to {MAX_TERMS:,} terms, given {len(terms):,}")
    met = [terms[number] for number in occurrences(claim.content, terms)]
    if not met:
        return tool.says(claim, 1.0, f"none of {len(terms):,} terms occurs", confidence=SOFT)
    worst = max(met, key=lambda term: harms[term])
    score = 1 - min(1.0, max(0.0, harms[worst]))
    return tool.says(claim, score, f"{len(met)} occurrences, the worst is {worst!r} ({harms[worst]:g})")


TOOL = Tool("lexicon", "power_dynamics", ("text",), own_version("lexicon 1"), one=_judge, applies=_applies, hard=True)
