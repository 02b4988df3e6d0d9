"""Conversations and preference pairs as text: the shapes that public sets use, rendered one way.

A turn is written `<|role|>` and its content on the next line. Chat templates of a tokenizer belong to training;
this is for corpora that mix conversations with prose, and for deduplication across both.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_MESSAGES = ("messages", "conversations", "conversation", "dialog", "dialogue")
_ROLES = {"human": "user", "gpt": "assistant", "bot": "assistant", "prompter": "user", "model": "assistant"}
_PAIRS = (
    (("prompt", "question", "instruction"), ("response", "completion", "answer", "output")),
    (("prompt", "question", "instruction"), ("chosen",)),
)


def chat_text(row: Mapping[str, Any]) -> str | None:
    """The conversation in `row` as text, or None when it holds none. Of a preference pair, the chosen side."""
    for key in (*_MESSAGES, "chosen"):
        turns = row.get(key)
        if isinstance(turns, (list, tuple)) and turns and all(isinstance(turn, Mapping) for turn in turns):
            return _turns(turns)
    for prompts, answers in _PAIRS:
        prompt = next((row[key] for key in prompts if isinstance(row.get(key), str)), None)
        answer = next((row[key] for key in answers if isinstance(row.get(key), str)), None)
        if prompt is not None and answer is not None:
            more = row.get("input")
            asked = f"{prompt}\n{more}" if isinstance(more, str) and more else prompt
            return f"<|user|>\n{asked}\n<|assistant|>\n{answer}"
    for key in ("chosen",):
        if isinstance(row.get(key), str):
            return str(row[key])
    return None


def _turns(turns: list[Mapping[str, Any]] | tuple[Mapping[str, Any], ...]) -> str | None:
    out = []
    for turn in turns:
        role = str(turn.get("role", turn.get("from", "user")))
        content = turn.get("content", turn.get("value", turn.get("text")))
        if not isinstance(content, str):
            return None
        out.append(f"<|{_ROLES.get(role, role)}|>\n{content}")
    return "\n".join(out)
