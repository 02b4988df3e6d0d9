"""Level 1 as a task: learnt from items, measured on items that no seed trains on, through the model's own forward."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import alexandra as ax
from alexandra.api import operations
from alexandra.backends.bind import bind
from alexandra.curriculum import level, split_of
from alexandra.curriculum.checks import check_value
from alexandra.errors import BackendError, DataError, LanguageError, StorageError, TaskError
from alexandra.ir.weights import WeightSet
from alexandra.lang.task_spec import DataSource, FamilyRef, MetricRef, NetworkRef, Split, Task
from alexandra.maths import key
from alexandra.registry.store import Registry
from alexandra.rng import derive
from alexandra.serve.engine import read_specialist
from alexandra.tables import Table
from alexandra.train import curriculum_task, kinds
from alexandra.train.curriculum_code import DigitCoder
from alexandra.train.curriculum_specialist import CurriculumSpecialist, proof
from alexandra.train.solve import Solution

CODER = DigitCoder(("+", "-"), 2, 3)


def questions(texts: list[str]) -> Table:
    return Table.from_any({"input": texts})


def share_right(specialist: CurriculumSpecialist, count: int = 1000) -> float:
    """Exact matches on held-out items of level 1, judged by the level's own check."""
    sample = level(1, count, pins=1, seed=99, split="test_iid")
    items = list(sample)
    answers = specialist.predict(questions([item.input for item in items]))
    return float(np.mean([sample.check(answer, item) for answer, item in zip(answers, items, strict=True)]))


@pytest.fixture(scope="module")
def solved(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Iterator[tuple[Solution, Path]]:
    folder = tmp_path_factory.mktemp("arithmetic")
    task = operations.read_task(repository / "examples/tasks/arithmetic.task")
    task = replace(task, networks=(FamilyRef("curriculum", (3, 3), (128, 128)),))
    yield operations.solve(task, registry=folder / "registry", runs=folder / "runs", threads=1), folder


def test_the_shipped_task_passes_its_check_and_is_promoted(solved: tuple[Solution, Path]) -> None:
    solution, folder = solved
    assert solution.winner.passed and solution.gate is not None and solution.gate.passed
    measured = solution.winner.metric("exact")
    assert measured.value >= 0.99 and measured.low >= 0.99 and measured.n == solution.winner.card.n >= 900
    assert Registry(folder / "registry").get("arithmetic@production").name == "digits-3x128"


def test_baselines_stand_beside_and_are_far_behind(solved: tuple[Solution, Path]) -> None:
    rows = {row.name: row.metric("exact").value for row in solved[0].rows if row.kind == "baseline"}
    assert set(rows) == {"majority", "neighbours", "tree"}
    assert max(rows.values()) < 0.5 and rows["majority"] < 0.05


def test_what_was_measured_was_held_out(solved: tuple[Solution, Path]) -> None:
    data = solved[0].data
    inputs = data.table["input"].texts()
    for part, name in zip(
        (data.parts[0].train, data.parts[0].valid, data.parts[0].test), ("train", "val", "test_iid"), strict=True
    ):
        assert {split_of(key(inputs[row])) for row in part} == {name}
    outcomes = solved[0].winner.card.outcomes
    specialist = solved[0].specialist
    assert isinstance(specialist, CurriculumSpecialist)
    assert not specialist.learnt_from(outcomes.keys).any()
    assert specialist.learnt_from(data.keys[data.parts[0].train]).all()


def test_held_out_items_are_answered_exactly_and_shuffled_weights_are_worthless(solved: tuple[Solution, Path]) -> None:
    specialist = solved[0].specialist
    assert isinstance(specialist, CurriculumSpecialist)
    assert share_right(specialist) >= 0.99
    mixed = {
        name: array.reshape(-1)[derive(3, "shuffled", name).permutation(array.size)].reshape(array.shape)
        for name, array in specialist.model.weights.items()
    }
    shuffled = replace(specialist, model=bind(specialist.graph, weights=WeightSet(mixed)))
    assert share_right(shuffled) < 0.05
    for seed in range(3):
        assert share_right(replace(specialist, model=bind(specialist.graph, seed=seed))) < 0.05


def test_an_echo_of_the_question_scores_zero() -> None:
    sample = level(1, 300, pins=1, split="test_iid")
    assert not any(sample.check(item.input, item) for item in sample)


def test_the_reported_share_is_that_of_the_answers(solved: tuple[Solution, Path]) -> None:
    solution = solved[0]
    data, rows = solution.data, solution.data.parts[0].test
    answers = solution.predict({"input": data.table["input"].texts()[rows].tolist()})
    truth = data.y[rows]
    right = [check_value(answer, int(value)) for answer, value in zip(answers, truth, strict=True)]
    assert np.mean(right) == solution.winner.metric("exact").value


def test_a_loaded_model_answers_the_same_as_text_and_every_answer_is_proved(solved: tuple[Solution, Path]) -> None:
    solution, folder = solved
    loaded = ax.load("arithmetic", registry=folder / "registry")
    texts = [item.input for item in level(1, 300, pins=1, seed=5)]
    assert loaded.predict({"input": texts}).tolist() == solution.predict({"input": texts}).tolist()
    (answer,) = operations.ask("arithmetic", question='{"input": "(+ 2 3)"}', registry=folder / "registry").answers
    assert answer.value == "5" and answer.probability is not None and answer.probability > 0.9
    assert answer.verdict.startswith("production; exact ") and answer.verdict.endswith("proved by the exact engine")
    assert proof("(+ 2 3)", "6") == "WRONG: the exact engine has 5"
    reply = operations.ask("arithmetic", row=3, registry=folder / "registry")
    assert reply.truth == (str(int(solution.data.y[3])),)


def test_a_registered_model_is_measured_again_on_what_it_has_not_learnt_from(solved: tuple[Solution, Path]) -> None:
    solution, folder = solved
    card = operations.evaluate("arithmetic:1", solution.task, registry=folder / "registry")
    assert card.n == solution.winner.card.n and card.metrics["exact"] == solution.winner.metric("exact")
    echo = operations.evaluate(lambda table: np.zeros(table.n_rows), solution.task, name="zero")
    assert echo.metrics["exact"].value < 0.05


def test_solving_the_written_task_again_trains_nothing_and_gives_the_same_bytes(
    solved: tuple[Solution, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    solution, folder = solved
    with monkeypatch.context() as untrained:
        untrained.delattr(curriculum_task, "fit_loop")
        again = operations.solve(
            solution.folder / "task.task", registry=folder / "registry", runs=folder / "runs", threads=2
        )
    assert again.folder == solution.folder
    assert dict(again.winner.version.blobs) == dict(solution.winner.version.blobs)  # type: ignore[union-attr]
    (solution.folder / "fits/digits-3x128.weights.safetensors").unlink()
    kind = kinds.kind_of(solution.task)
    settings = kinds.Settings(solution.task.split.seed, 1, "auto", float("inf"), folder / "elsewhere")
    other = kind.maker.finish(solution.data, kind.candidates(solution.data)[0], 0, settings)
    assert all(
        np.array_equal(other.model.weights[name], array) for name, array in solution.specialist.model.weights.items()
    )  # type: ignore[union-attr]


def test_what_it_cannot_read_is_refused_with_the_way_out(solved: tuple[Solution, Path]) -> None:
    solution = solved[0]
    for text in ("(* 2 3)", "(+ 100 1)", "(+ (+ 1 2) 3)", "(- 3)", "(+ 1/2 3)", "(- -1 2)", "7"):
        with pytest.raises(DataError, match=r"not a question that this specialist reads\nit reads \(\+ or -\) of two"):
            solution.predict({"input": [text]})
    with pytest.raises(LanguageError, match="never closed"):
        solution.predict({"input": ["(+ 1 2"]})
    with pytest.raises(DataError, match="input"):
        solution.predict({"question": ["(+ 1 2)"]})
    with pytest.raises(BackendError, match="its coding is not part of the network"):
        solution.export("onnx", solution.folder / "onnx")


def test_the_report_names_what_the_answer_depends_on(solved: tuple[Solution, Path]) -> None:
    page = solved[0].report
    assert page is not None
    text = page.read_text(encoding="utf-8")
    for words in ("operator", "first operand", "second operand", "least sure answer", "digits-3x128"):
        assert words in text


def test_files_of_an_artifact_read_back_and_damage_is_found(solved: tuple[Solution, Path]) -> None:
    specialist = solved[0].specialist
    assert isinstance(specialist, CurriculumSpecialist)
    blobs = specialist.to_blobs()
    again = read_specialist(blobs)
    assert isinstance(again, CurriculumSpecialist) and again.to_blobs() == blobs
    with pytest.raises(StorageError, match="has no 'graph.json'"):
        CurriculumSpecialist.from_blobs({name: blob for name, blob in blobs.items() if name != "graph.json"})
    body = json.loads(blobs["specialist.json"])
    with pytest.raises(StorageError, match="no 'encoder'"):
        CurriculumSpecialist.from_blobs(
            {**blobs, "specialist.json": json.dumps({k: v for k, v in body.items() if k != "encoder"}).encode()}
        )


# --- coding ------------------------------------------------------------------------------------------------------

OPERANDS = st.integers(0, 99)


@given(st.lists(st.tuples(st.sampled_from("+-"), OPERANDS, OPERANDS), min_size=1, max_size=8))
def test_the_coding_of_a_question_holds_its_digits_and_nothing_else(rows: list[tuple[str, int, int]]) -> None:
    texts = [f"({op} {a} {b})" for op, a, b in rows]
    x, tokens = CODER.one_hot(texts), CODER.tokens(texts)
    assert x.shape == (len(rows), CODER.width) == (len(rows), 42) and set(np.unique(x)) <= {0.0, 1.0}
    assert tokens.shape == (len(rows), 5) and tokens.max() < CODER.vocabulary
    for row, (op, a, b) in enumerate(rows):
        assert tokens[row].tolist() == [10 + "+-".index(op), a // 10, a % 10, b // 10, b % 10]
        assert np.flatnonzero(x[row]).tolist() == [
            "+-".index(op), 2 + a // 10, 12 + a % 10, 22 + b // 10, 32 + b % 10
        ]  # fmt: skip


@given(st.lists(st.integers(-999, 999), min_size=1, max_size=8))
def test_answers_come_back_from_their_heads(values: list[int]) -> None:
    targets = CODER.targets(np.array(values, dtype=np.float64))
    outputs = {name: np.eye(size)[targets[name]] for name, size in CODER.heads.items()}
    back, probability = CODER.decode(outputs)
    assert back.tolist() == values and probability.tolist() == [1.0] * len(values)
    assert list(CODER.heads) == ["sign", "digit_2", "digit_1", "digit_0"]


def test_a_coder_learns_its_digits_from_training_rows() -> None:
    assert DigitCoder.fit(["(+ 7 80)", "(- 3 4)"], np.array([87.0, -1.0])) == DigitCoder(("+", "-"), 2, 2)
    assert DigitCoder.from_dict(json.loads(json.dumps(CODER.to_dict()))) == CODER
    with pytest.raises(DataError, match="whole operands from 0 up"):
        DigitCoder.fit(["(+ 1 (+ 2 3))"], np.array([6.0]))


# --- tasks that are refused, and networks of one's own -------------------------------------------------------------


def task(**changes: object) -> Task:
    base = Task(DataSource.curriculum((1, 1), 4000), name="sums")
    return replace(base, **changes)  # type: ignore[arg-type]


def prepared(one: Task) -> curriculum_task.Prepared:
    return kinds.prepare(one, kinds.load_table(one, Path()))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"data": DataSource.curriculum((1, 2), 4000)},
            "level 2 cannot be learnt by this version, only 1\nwrite levels=1",
        ),
        ({"data": DataSource.curriculum((9, 9), 10)}, "level 9 cannot be learnt"),
        ({"split": Split(folds=5)}, "divided by the canonical keys of its items, not by folds"),
        ({"split": Split(time="when")}, "not by folds, time or group\nleave SPLIT out"),
        ({"data": DataSource.curriculum((1, 1), 3)}, "3 items leave"),
        ({"metric": MetricRef("accuracy")}, "metric 'accuracy' needs a target that has classes"),
        ({"networks": (FamilyRef("tabular"),)}, "the family 'tabular' reads tables, not expressions"),
    ],
)
def test_a_task_that_cannot_be_met_is_refused_before_training(changes: dict[str, object], words: str) -> None:
    with pytest.raises(TaskError, match=words):
        curriculum_task.candidates(prepared(task(**changes)))


def test_more_items_than_there_are_is_a_data_error() -> None:
    with pytest.raises(DataError, match="level 1 has 15,050 distinct items, 20,000 were asked"):
        kinds.load_table(task(data=DataSource.curriculum((1, 1), 20_000)), Path())


def test_the_split_can_be_cut_elsewhere_but_stays_one_of_keys() -> None:
    default, other = prepared(task()), prepared(task(split=Split(fractions=(0.5, 0.2, 0.3), seed=4)))
    assert default.task.split.fractions == (0.8, 0.1, 0.1)
    inputs = default.table["input"].texts()
    assert all(split_of(key(inputs[row])) == "test_iid" for row in default.parts[0].test)
    assert len(other.parts[0].test) / 4000 == pytest.approx(0.3, abs=0.03)
    assert set(default.parts[0].test) <= set(other.parts[0].test)
    assert prepared(default.task).data_hash == default.data_hash == other.data_hash


EMBEDDED = """NETWORK sums
BEGIN
  LAYER INPUT name=x size=AUTO dtype=int32
  LAYER EMBEDDING name=e vocab=AUTO size=8
  LAYER RESHAPE name=flat shape=(40)
  LAYER DENSE name=h size=64 activation=relu
  LAYER OUTPUT name=sign size=AUTO activation=softmax
  LAYER OUTPUT name=digit_2 size=AUTO activation=softmax
  LAYER OUTPUT name=digit_1 size=AUTO activation=softmax
  LAYER OUTPUT name=digit_0 size=AUTO activation=softmax
  CONNECT x -> e -> flat -> h -> sign
  CONNECT h -> digit_2
  CONNECT h -> digit_1
  CONNECT h -> digit_0
END"""


def test_a_network_of_ones_own_may_embed_tokens(tmp_path: Path) -> None:
    one = task(networks=(NetworkRef(program=EMBEDDED),), data=DataSource.curriculum((1, 1), 2000))
    data = prepared(one)
    (candidate,) = kinds.kind_of(one).candidates(data)
    candidate = replace(candidate, recipe=replace(candidate.recipe, epochs=8))
    part = data.parts[0]
    settings = kinds.Settings(0, 1, "auto", float("inf"), tmp_path)
    maker = kinds.kind_of(one).maker
    specialist, history = maker.train(
        data, candidate, maker.encode(data, part.train), (part.train, part.valid), settings
    )
    assert history.epochs[-1].valid_loss < 0.8 * history.epochs[0].valid_loss
    assert len(specialist.predict(data.table.take(part.test))) == len(part.test)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            "name=sign",
            "name=plus",
            "has the outputs plus, digit_2, digit_1, digit_0\na network for this curriculum has",
        ),
        ("name=digit_0 size=AUTO", "name=digit_0 size=7", "output 'digit_0' must be a softmax of size 10"),
        ("name=sign size=AUTO activation=softmax", "name=sign size=AUTO", "'sign' must be a softmax of size 2"),
    ],
)
def test_a_network_that_does_not_fit_is_refused_by_name(old: str, new: str, words: str) -> None:
    program = EMBEDDED.replace(old, new).replace("-> sign" if "plus" in new else "\0", "-> plus")
    with pytest.raises(TaskError, match=words):
        curriculum_task.candidates(prepared(task(networks=(NetworkRef(program=program),))))


def test_the_default_family_spans_from_the_linear_model_to_three_layers() -> None:
    data = prepared(task())
    names = [one.name for one in curriculum_task.candidates(data)]
    assert names == ["linear", "digits-1x256", "digits-2x128", "digits-2x256", "digits-3x128", "digits-3x256"]
