"""The data formats that users have, as typed examples: texts, conversations, preference pairs, prompts to be judged.

Read from JSON lines (.jsonl, .jsonl.gz, .jsonl.zst is the data pipeline's), Parquet, or a Hugging Face data set by
folder or id. What a row must have is told by its stage; a row without it ends in an error that names the row, the
column and the columns that there are. Nothing is dropped silently.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from alexandra.errors import DataError, NotFoundError, missing_extra, suggest
from alexandra.train.lm.chat import Message

Record = Mapping[str, Any]

# What other tools call the columns.
ALIASES = {
    "prompt": ("prompt", "instruction", "question", "query"),
    "completion": ("completion", "response", "answer", "output"),
    "messages": ("messages", "conversations"),
    "chosen": ("chosen",),
    "rejected": ("rejected",),
    "text": ("text", "content"),
    "label": ("label", "desirable"),
}
_ROLES = {"human": "user", "gpt": "assistant", "system": "system", "observation": "tool", "function_call": "assistant"}


@dataclass(frozen=True)
class Conversation:
    """Turns to learn from (SFT)."""

    messages: tuple[Message, ...]


@dataclass(frozen=True)
class Pair:
    """A prompt with a better and a worse answer (DPO, ORPO, reward model)."""

    prompt: tuple[Message, ...]
    chosen: str
    rejected: str


@dataclass(frozen=True)
class Judged:
    """A prompt with one answer that was liked or not (KTO)."""

    prompt: tuple[Message, ...]
    completion: str
    desirable: bool


@dataclass(frozen=True)
class Prompt:
    """A prompt and the other columns, which verifiers read (GRPO, PPO, rejection sampling)."""

    messages: tuple[Message, ...]
    fields: Mapping[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> str:
        return self.messages[-1].content


def read_records(source: str | Path | Sequence[Record], *, split: str = "train", limit: int = 0) -> list[Record]:
    """The rows of a file, a folder, a Hugging Face data set, or a list of dicts; all, or the first `limit`."""
    if not isinstance(source, str | Path):
        rows: Iterator[Record] = iter(source)
    else:
        path = Path(source)
        rows = _rows(path) if path.exists() else _hub(str(source), split)
    found: list[Record] = []
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise DataError(f"row {number} of {_name(source)} is not an object: {str(row)[:60]!r}")
        found.append(row)
        if limit and len(found) == limit:
            break
    if not found:
        raise DataError(f"{_name(source)} has no rows")
    return found


def _name(source: object) -> str:
    return repr(str(source)) if isinstance(source, str | Path) else "the data"


def _rows(path: Path) -> Iterator[Record]:
    if path.is_dir():
        files = sorted(f for f in path.rglob("*") if f.name.endswith((".jsonl", ".jsonl.gz", ".parquet")))
        if not files:
            raise NotFoundError(f"folder {str(path)!r} holds no .jsonl, .jsonl.gz or .parquet file")
        for file in files:
            yield from _rows(file)
    elif path.suffix == ".parquet":
        import polars

        yield from polars.read_parquet(path).iter_rows(named=True)
    elif path.name.endswith((".jsonl", ".jsonl.gz", ".json", ".json.gz")):
        yield from _json_rows(path)
    else:
        raise DataError(f"cannot read {str(path)!r}", hint="known: .jsonl, .jsonl.gz, .json, .parquet, or a folder")


def _json_rows(path: Path) -> Iterator[Record]:
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        text = data.decode("utf-8")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {str(path)!r}: {error}") from error
    if ".json" in path.suffixes and ".jsonl" not in path.suffixes:
        yield from _parsed(text, path, 1)
        return
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            yield _parsed(line, path, number)


def _parsed(text: str, path: Path, line: int) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise DataError(f"{path}:{line}: not JSON: {error}") from None


def _hub(name: str, split: str) -> Iterator[Record]:
    if "/" not in name and "." in name:
        raise NotFoundError(f"no file {name!r}")
    try:
        import datasets
    except ImportError:
        raise missing_extra(f"the Hugging Face data set {name!r}", "hf") from None
    try:
        yield from datasets.load_dataset(name, split=split)
    except (OSError, ValueError, ConnectionError) as error:
        reason = str(error).splitlines()[0]
        raise NotFoundError(f"no file or folder {name!r}, and as a data set: {reason}") from error


def conversation(record: Record, number: int) -> Conversation:
    """messages, or prompt and completion."""
    if (key := _has(record, "messages")) is not None:
        return Conversation(_messages(record[key], number, key))
    prompt, answer = _messages_or_text(record, "prompt", number), _text(record, "completion", number)
    return Conversation((*prompt, Message("assistant", answer)))


def pair(record: Record, number: int) -> Pair:
    """prompt, chosen, rejected; or chosen and rejected conversations that share their beginning."""
    chosen, rejected = record.get("chosen"), record.get("rejected")
    for key, value in (("chosen", chosen), ("rejected", rejected)):
        if value in (None, "", []):
            raise _absent(record, key, number)
    if isinstance(chosen, list) and isinstance(rejected, list):
        turns = [_messages(value, number, "chosen") for value in (chosen, rejected)]
        if turns[0][:-1] != turns[1][:-1]:
            raise DataError(f"row {number}: chosen and rejected do not share their prompt")
        return Pair(turns[0][:-1], turns[0][-1].content, turns[1][-1].content)
    answers = [_answer(value) for value in (chosen, rejected)]
    if any(_has(record, key) is not None for key in ("prompt", "messages")):
        key = _has(record, "prompt") or "messages"
        return Pair(_messages_or_text(record, "prompt" if key != "messages" else key, number), answers[0], answers[1])
    return _dialogues(answers[0], answers[1], number)


def _dialogues(chosen: str, rejected: str, number: int) -> Pair:
    """Two transcripts in Anthropic's form, equal up to their last `Assistant:`."""
    mark = "\n\nAssistant:"
    places = chosen.rfind(mark), rejected.rfind(mark)
    if min(places) < 0 or chosen[: places[0]] != rejected[: places[1]]:
        raise DataError(f"row {number}: chosen and rejected have no common prompt", hint="give a column 'prompt'")
    answers = [text[at + len(mark) :].strip() for text, at in zip((chosen, rejected), places, strict=True)]
    turns = []
    for piece in chosen[: places[0]].split("\n\nHuman:")[1:]:
        human, *assistant = piece.split(mark)
        turns.append(Message("user", human.strip()))
        turns += [Message("assistant", text.strip()) for text in assistant]
    return Pair(tuple(turns), answers[0], answers[1])


def judged(record: Record, number: int) -> Judged:
    """prompt, completion, label (true or false)."""
    key = _has(record, "label")
    if key is None or not isinstance(record[key], bool | int):
        raise _absent(record, "label", number)
    answer = _text(record, "completion", number)
    return Judged(_messages_or_text(record, "prompt", number), answer, bool(record[key]))


def prompt(record: Record, number: int) -> Prompt:
    """prompt (a text or messages); every other column goes to the verifiers."""
    key = _has(record, "prompt") or _has(record, "messages")
    if key is None:
        raise _absent(record, "prompt", number)
    messages = _messages_or_text(record, "prompt" if key != "messages" else "messages", number)
    return Prompt(messages, {name: value for name, value in record.items() if name != key})


def question(record: Record, number: int) -> Prompt:
    """What a row of any stage asks: its prompt, its turns before the last answer, or what a pair shares."""
    if _has(record, "prompt") is not None:
        return prompt(record, number)
    if _has(record, "messages") is None:
        return Prompt(pair(record, number).prompt)
    turns = conversation(record, number).messages
    last = max((i for i, turn in enumerate(turns) if turn.role == "assistant"), default=len(turns))
    return Prompt(turns[:last])


def document(record: Record, number: int) -> str:
    """text (pre-training)."""
    return _text(record, "text", number)


def _has(record: Record, column: str) -> str | None:
    return next((name for name in ALIASES[column] if record.get(name) is not None), None)


def _absent(record: Record, column: str, number: int) -> DataError:
    known = ", ".join(map(str, record)) or "none"
    return DataError(
        f"row {number} has no {column!r}; its columns are {known}",
        hint=f"accepted names: {', '.join(ALIASES[column])}",
    )


def _text(record: Record, column: str, number: int) -> str:
    key = _has(record, column)
    if key is None:
        raise _absent(record, column, number)
    value = _answer(record[key])
    if not value:
        raise DataError(f"row {number}: {key!r} is empty", hint="drop such rows from the data")
    return value


def _answer(value: Any) -> str:
    """A text, or the content of a message in one of the usual spellings."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, Mapping):
        value = value.get("content", value.get("value", ""))
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _messages_or_text(record: Record, column: str, number: int) -> tuple[Message, ...]:
    key = _has(record, column)
    if key is None:
        raise _absent(record, column, number)
    value = record[key]
    if isinstance(value, str):
        if not value:
            raise DataError(f"row {number}: {key!r} is empty", hint="drop such rows from the data")
        system = record.get("system")
        first = (Message("system", system),) if isinstance(system, str) and system else ()
        return (*first, Message("user", value))
    return _messages(value, number, key)


def _messages(value: Any, number: int, key: str) -> tuple[Message, ...]:
    if not isinstance(value, list) or not value:
        raise DataError(f"row {number}: {key!r} is not a list of messages, got {str(value)[:60]!r}")
    found = []
    for item in value:
        if not isinstance(item, Mapping):
            raise DataError(f"row {number}: {key!r} holds {str(item)[:60]!r}, a message is {{role, content}}")
        role, content = item.get("role", item.get("from", "")), item.get("content", item.get("value"))
        if not isinstance(content, str):
            raise DataError(f"row {number}: a message of {key!r} has no content", hint=suggest("content", list(item)))
        found.append(Message(_ROLES.get(str(role), str(role)), content))
    return tuple(found)
