"""Data formats: the usual spellings are read, and a row without what its stage needs is named."""

import gzip
import json
from pathlib import Path

import pytest

from alexandra.errors import DataError, NotFoundError
from alexandra.train.lm import examples
from alexandra.train.lm.chat import Message


def test_files_folders_and_lists_give_equal_rows(tmp_path: Path) -> None:
    import polars

    rows = [{"prompt": f"p{i}", "completion": f"c{i}"} for i in range(3)]
    lines = "\n".join(map(json.dumps, rows))
    (tmp_path / "a.jsonl").write_text(lines)
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    polars.DataFrame(rows).write_parquet(tmp_path / "c.parquet")
    (tmp_path / "d.json").write_text(json.dumps(rows[0]))
    for name in ("a.jsonl", "b.jsonl.gz", "c.parquet"):
        assert list(map(dict, examples.read_records(tmp_path / name))) == rows
    assert examples.read_records(rows, limit=2) == rows[:2]
    assert len(examples.read_records(tmp_path)) == 9


def test_damaged_and_missing_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"prompt": 1}\n{"prompt"')
    with pytest.raises(DataError, match=r"a\.jsonl:2: not JSON"):
        examples.read_records(tmp_path / "a.jsonl")
    (tmp_path / "b.jsonl").write_text("[1]\n")
    with pytest.raises(DataError, match="row 0 .* is not an object"):
        examples.read_records(tmp_path / "b.jsonl")
    (tmp_path / "c.jsonl").write_text("\n")
    with pytest.raises(DataError, match="has no rows"):
        examples.read_records(tmp_path / "c.jsonl")
    with pytest.raises(NotFoundError):
        examples.read_records("nowhere.jsonl")


def test_conversations_in_every_usual_spelling() -> None:
    wanted = (Message("user", "hi"), Message("assistant", "ho"))
    for record in (
        {"prompt": "hi", "completion": "ho"},
        {"instruction": "hi", "output": "ho"},
        {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]},
        {"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "ho"}]},
        {"prompt": [{"role": "user", "content": "hi"}], "completion": [{"role": "assistant", "content": "ho"}]},
    ):
        assert examples.conversation(record, 0).messages == wanted
    assert examples.conversation({"prompt": "hi", "completion": ["é", 1]}, 0).messages[1].content == '["é", 1]'
    assert examples.conversation({"prompt": "hi", "completion": "ho", "system": "s"}, 0).messages[0].role == "system"


def test_pairs_in_every_usual_spelling() -> None:
    user = {"role": "user", "content": "hi"}
    good, bad = ({"role": "assistant", "content": text} for text in ("good", "bad"))
    human = [{"from": "human", "value": "hi"}]
    wanted = examples.Pair((Message("user", "hi"),), "good", "bad")
    for record in (
        {"prompt": "hi", "chosen": "good", "rejected": "bad"},
        {"prompt": [user], "chosen": [good], "rejected": "bad"},
        {"chosen": [user, good], "rejected": [user, bad]},
        {"conversations": human, "chosen": {"value": "good"}, "rejected": {"value": "bad"}},
        {"chosen": "\n\nHuman: hi\n\nAssistant: good", "rejected": "\n\nHuman: hi\n\nAssistant: bad"},
    ):
        assert examples.pair(record, 0) == wanted
    with pytest.raises(DataError, match="do not share their prompt"):
        other = {"role": "user", "content": "ha"}
        answer = {"role": "assistant", "content": "x"}
        examples.pair({"chosen": [user, answer], "rejected": [other, answer]}, 4)


def test_prompts_keep_their_other_columns_for_verifiers() -> None:
    found = examples.prompt({"question": "1+1", "answer": "2", "level": 1}, 0)
    assert found.text == "1+1" and found.fields == {"answer": "2", "level": 1}


def test_a_row_without_its_column_names_the_row_the_column_and_what_there_is() -> None:
    with pytest.raises(DataError, match="row 7 has no 'completion'; its columns are prompt, x") as error:
        examples.conversation({"prompt": "hi", "x": 1}, 7)
    assert "response" in str(error.value)
    with pytest.raises(DataError, match="row 2 has no 'rejected'"):
        examples.pair({"prompt": "hi", "chosen": "a", "rejected": ""}, 2)
    with pytest.raises(DataError, match="row 3: 'completion' is empty"):
        examples.conversation({"prompt": "hi", "completion": ""}, 3)
    with pytest.raises(DataError, match="row 5 has no 'label'"):
        examples.judged({"prompt": "hi", "completion": "x", "label": "yes"}, 5)
    assert examples.judged({"prompt": "hi", "completion": "x", "label": False}, 5).desirable is False
