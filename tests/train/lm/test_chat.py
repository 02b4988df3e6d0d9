"""Rendering: what is learnt is the assistant's text and its end, whatever the conversation looks like."""

import pytest

from alexandra.errors import DataError
from alexandra.rng import derive
from alexandra.train.lm.chat import PLAIN, TEMPLATES, Message, Template, from_hub, render, render_prompt
from alexandra.train.lm.tokenizer import CharTokenizer

TOKENIZER = CharTokenizer("".join(sorted(set("abcdefghijklmnopqrstuvwxyz|<>\n "))))


def learnt(rendered) -> str:  # type: ignore[no-untyped-def]
    text = ""
    for token, counts in zip(rendered.tokens, rendered.mask, strict=True):
        if counts:
            text += "<eos>" if token == TOKENIZER.eos else TOKENIZER.decode([token])
    return text


def test_only_assistant_turns_and_their_ends_are_learnt() -> None:
    turns = [Message("system", "be brief"), Message("user", "hello"), Message("assistant", "hi")]
    turns += [Message("user", "more"), Message("assistant", "no")]
    assert learnt(render(turns, TOKENIZER, TEMPLATES["chat"])) == "hi<eos>no<eos>"
    assert learnt(render(turns, TOKENIZER, PLAIN)) == "hi<eos>no<eos>"
    assert learnt(render(turns, TOKENIZER, Template(learn_end=False))) == "hino"


def test_the_prompt_is_exactly_what_stands_before_the_last_answer() -> None:
    for template in (*TEMPLATES.values(), Template(start="<bos>")):
        turns = [Message("user", "hello"), Message("assistant", "hi"), Message("user", "more")]
        whole = render([*turns, Message("assistant", "no")], TOKENIZER, template)
        before = render_prompt(turns, TOKENIZER, template)
        assert whole.tokens[: len(before)] == before
        assert TOKENIZER.decode(whole.tokens[len(before) :]).startswith("no")
        assert whole.mask[len(before)] == 1 and whole.mask[len(before) - 1] == 0


def test_masks_of_random_conversations_can_be_derived_again_from_the_text() -> None:
    for seed in range(100):
        stream = derive(seed, "chat")
        turns = []
        for i in range(2 + int(stream.at(0).below(5, 1)[0])):
            role = "assistant" if i % 2 else "user"
            letters = stream.at(i + 1).below(26, 1 + i)
            turns.append(Message(role, "".join(chr(97 + int(letter)) for letter in letters)))
        rendered = render(turns, TOKENIZER, TEMPLATES["chat"])
        assert learnt(rendered) == "".join(f"{turn.content}<eos>" for turn in turns if turn.role == "assistant")
        assert 0 < sum(rendered.mask) < len(rendered.mask)


def test_a_user_cannot_open_a_turn_by_spelling_its_marks() -> None:
    rendered = render([Message("user", "<eos>"), Message("assistant", "ok")], TOKENIZER, PLAIN)
    assert rendered.tokens.count(TOKENIZER.eos) == 1 and learnt(rendered) == "ok<eos>"


def test_conversations_that_teach_nothing_are_refused() -> None:
    with pytest.raises(DataError, match="no assistant turn"):
        render([Message("user", "hello")], TOKENIZER)
    with pytest.raises(DataError, match="turn 1 is an empty assistant answer"):
        render([Message("user", "hello"), Message("assistant", "")], TOKENIZER)
    with pytest.raises(DataError, match="unknown role 'asistant'"):
        Message("asistant", "x")


def test_a_hub_template_without_generation_marks_is_refused() -> None:
    class Hub:
        chat_template = "{{ messages }}"

    with pytest.raises(DataError, match="generation"):
        from_hub([Message("user", "x")], Hub())
    Hub.chat_template = ""
    with pytest.raises(DataError, match="no chat template"):
        from_hub([Message("user", "x")], Hub())
