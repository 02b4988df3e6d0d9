"""Conversations to tokens with an explicit loss mask: what is learnt is decided here, segment by segment.

A Template is literal text around each role's content. Every segment is tokenised alone and carries its own mask, so the
mask is right by construction and can be derived again from the text (`explain`). Learnt are the contents of assistant
turns and the token that ends them, nothing else. A Hugging Face chat template is used through `from_hub`, and only when
it marks generations: a guessed mask has silently trained many models on their prompts (axolotl 2089, TRL 6105).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from alexandra.errors import DataError, suggest
from alexandra.train.lm.tokenizer import Tokenizer

ROLES = ("system", "user", "assistant", "tool")


@dataclass(frozen=True)
class Message:
    """One turn."""

    role: str
    content: str

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise DataError(f"unknown role {self.role!r}", hint=suggest(self.role, ROLES))


@dataclass(frozen=True)
class Template:
    """Text before and after each role's content. `<eos>` and `<bos>` stand for the tokenizer's tokens.

    `learn_end` says whether the tokens that end an assistant turn are learnt (without them a model never stops).
    """

    system: tuple[str, str] = ("<|system|>\n", "\n")
    user: tuple[str, str] = ("<|user|>\n", "\n")
    assistant: tuple[str, str] = ("<|assistant|>\n", "<eos>\n")
    tool: tuple[str, str] = ("<|tool|>\n", "\n")
    start: str = ""
    learn_end: bool = True

    def around(self, role: str) -> tuple[str, str]:
        """Opening and closing of a role."""
        return {"system": self.system, "user": self.user, "assistant": self.assistant, "tool": self.tool}[role]


PLAIN = Template(system=("", ""), user=("", ""), assistant=("", "<eos>"), tool=("", ""))
TEMPLATES = {"chat": Template(), "plain": PLAIN}


@dataclass(frozen=True)
class Segment:
    """A piece of rendered text, whether it is learnt, and its tokens."""

    text: str
    learnt: bool
    tokens: tuple[int, ...]


@dataclass(frozen=True)
class Rendered:
    """A conversation as segments; `tokens` and `mask` are what training reads."""

    segments: tuple[Segment, ...]

    @property
    def tokens(self) -> list[int]:
        return [token for segment in self.segments for token in segment.tokens]

    @property
    def mask(self) -> list[int]:
        """1 for each token that is learnt."""
        return [int(segment.learnt) for segment in self.segments for _ in segment.tokens]


def render(messages: Sequence[Message], tokenizer: Tokenizer, template: Template = PLAIN) -> Rendered:
    """All turns, those of the assistant learnt. DataError without an assistant's turn or with an empty one."""
    if not any(message.role == "assistant" for message in messages):
        raise DataError("this conversation has no assistant turn: there is nothing to learn from it")
    segments = list(_text(template.start, False, tokenizer))
    for number, message in enumerate(messages):
        before, after = template.around(message.role)
        is_answer = message.role == "assistant"
        if is_answer and not message.content:
            raise DataError(f"turn {number} is an empty assistant answer", hint="drop such rows from the data")
        segments += _text(before, False, tokenizer)
        segments += [Segment(message.content, is_answer, tuple(tokenizer.encode(message.content)))]
        end, _, rest = after.partition("<eos>") if "<eos>" in after else ("", "", after)
        if "<eos>" in after:
            segments += _text(end + "<eos>", is_answer and template.learn_end, tokenizer)
        segments += _text(rest, False, tokenizer)
    return Rendered(tuple(segment for segment in segments if segment.tokens))


def render_prompt(messages: Sequence[Message], tokenizer: Tokenizer, template: Template = PLAIN) -> list[int]:
    """The tokens up to where the assistant begins to answer."""
    segments = list(_text(template.start, False, tokenizer))
    for message in messages:
        before, after = template.around(message.role)
        segments += _text(before, False, tokenizer)
        segments.append(Segment(message.content, False, tuple(tokenizer.encode(message.content))))
        segments += _text(after, False, tokenizer)
    segments += _text(template.assistant[0], False, tokenizer)
    return [token for segment in segments for token in segment.tokens]


def _text(text: str, learnt: bool, tokenizer: Tokenizer) -> Iterator[Segment]:
    """Template text: `<eos>` and `<bos>` are the tokenizer's, other special tokens by their own name."""
    rest = text
    while rest:
        found = [(rest.find(word), word) for word in _words(rest)]
        specials = [(at, word, number) for at, word in found if (number := _special(word, tokenizer)) is not None]
        at, word, number = min(specials, default=(len(rest), "", None))
        if at:
            yield Segment(rest[:at], learnt, tuple(tokenizer.encode(rest[:at])))
        if number is not None:
            yield Segment(word, learnt, (number,))
        rest = rest[at + len(word) :]


def _words(text: str) -> set[str]:
    """Everything in angle brackets."""
    return {f"<{piece.partition('>')[0]}>" for piece in text.split("<")[1:] if ">" in piece}


def _special(word: str, tokenizer: Tokenizer) -> int | None:
    if word == "<eos>":
        return tokenizer.eos
    return tokenizer.bos if word == "<bos>" and tokenizer.bos is not None else tokenizer.special(word)


def from_hub(messages: Sequence[Message], tokenizer: Any) -> tuple[list[int], list[int]]:
    """Tokens and mask by a `transformers` tokenizer's own chat template. DataError when it marks no generation."""
    template = getattr(tokenizer, "chat_template", None)
    if not template:
        raise DataError("this tokenizer has no chat template", hint="use template = 'chat', or give one in the recipe")
    if "{% generation" not in template.replace("{%-", "{%"):
        raise DataError(
            "this chat template has no {% generation %} marks, so what to learn would be a guess",
            hint="add {% generation %} ... {% endgeneration %} around the assistant's text, or use template = 'chat'",
        )
    record = tokenizer.apply_chat_template(
        [{"role": message.role, "content": message.content} for message in messages],
        tokenize=True,
        return_dict=True,
        return_assistant_tokens_mask=True,
    )
    tokens, mask = list(map(int, record["input_ids"])), list(map(int, record["assistant_masks"]))
    if not any(mask):
        raise DataError("the chat template masks every token of this conversation", hint="look at its generation marks")
    return tokens, mask
