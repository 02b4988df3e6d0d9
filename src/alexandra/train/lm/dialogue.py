"""Messages as the tokens of one tokenizer and template: prompts to answer, and rows that learn one answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from alexandra.train.lm.batch import Row
from alexandra.train.lm.chat import Message, Template, render, render_prompt
from alexandra.train.lm.tokenizer import Tokenizer


@dataclass(frozen=True)
class Dialogue:
    """How turns become tokens."""

    tokenizer: Tokenizer
    template: Template

    def prompt(self, messages: Sequence[Message]) -> list[int]:
        """The tokens up to where the assistant begins to answer."""
        return render_prompt(messages, self.tokenizer, self.template)

    def whole(self, messages: Sequence[Message]) -> Row:
        """All turns; those of the assistant count."""
        rendered = render(messages, self.tokenizer, self.template)
        return Row(rendered.tokens, rendered.mask)

    def answer(self, messages: Sequence[Message], answer: str) -> Row:
        """A prompt and one answer; only the answer (and its end) counts."""
        before = len(self.prompt(messages))
        row = self.whole([*messages, Message("assistant", answer)])
        return Row(row.tokens, [0] * before + list(row.mask[before:]))
