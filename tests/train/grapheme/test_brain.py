"""The brain learns, resumes to the same bytes, and is measured by what it writes; what knows nothing scores zero."""

import json
import shutil
import tomllib
from pathlib import Path

import numpy as np
import pytest

from alexandra.curriculum import level
from alexandra.curriculum.items import TEST_IID, TRAIN, VAL, split_of
from alexandra.errors import ConfigError, StorageError
from alexandra.ir.cost import parameters
from alexandra.lang.nureon import compile_network
from alexandra.objectives.structural import StructuralLoss
from alexandra.storage import read_bytes
from alexandra.train.grapheme.brain import Solver, Written, packed_graph
from alexandra.train.grapheme.documents import LENGTHS, Stream, batches, chunk
from alexandra.train.grapheme.network import NETWORK
from alexandra.train.grapheme.recipe import BrainRecipe
from alexandra.train.grapheme.robustness import joined, nearby
from alexandra.train.grapheme.run import load_recipe, network, run
from alexandra.train.grapheme.score import (
    Score,
    abstention,
    answered,
    calibration_error,
    echo,
    judged,
    score,
    shuffled,
    threshold_for,
    verified_at,
)
from alexandra.train.grapheme.seed_log import SeedLog
from alexandra.train.grapheme.stage import CurriculumStage
from alexandra.train.grapheme.structural_updates import edges_of, loss_of, shown
from alexandra.train.grapheme.tokens import VOCABULARY, WORDS, encode
from alexandra.train.lm.folder import read_model

pytest.importorskip("alexandra._native", reason="the brain runs on the native engine")

SEED_CONFIG = """
[training]
batch_size = 64
epochs_per_level = 10
learning_rate = 0.001
patience = 5
checkpoint_every = 2
[optimizer]
type = "adam"
beta1 = 0.9
beta2 = 0.999
epsilon = 1e-8
weight_decay = 0.0001
[loss]
node_insertion_cost = 1.0
node_deletion_cost = 1.0
edge_insertion_cost = 0.5
edge_deletion_cost = 0.5
clique_weight = 2.0
[curriculum]
start_level = 1
end_level = 7
advance_threshold = 0.95
min_epochs_per_level = 5
[paths]
train_data = "data/generated"
output_dir = "checkpoints"
log_file = "training.log"
[hardware]
num_threads = 0
parallel_batches = true
"""


TINY = """
[network]
width = 16
layers = 1
heads = 2
hidden = 32
[hardware]
num_threads = 1
[training]
batch_size = 16
"""


def small(**training: int) -> BrainRecipe:
    record = tomllib.loads(TINY)
    record["training"] |= {"epochs": 4, "epochs_per_level": 2, "updates_per_epoch": 3, "warmup": 2, **training}
    return BrainRecipe.model_validate({**record, "curriculum": {"end_level": 2, "measured": 10}})


def test_the_seeds_configuration_is_a_recipe_as_it_stands(tmp_path: Path) -> None:
    place = tmp_path / "train_config.toml"
    place.write_text(SEED_CONFIG)
    recipe = load_recipe(place)
    assert recipe.epochs == 70 and recipe.training.updates == 156 and recipe.optimizer.type == "adam"
    assert recipe.loss.clique_weight == 2.0 and recipe.levels == (1, 2, 3, 4, 5, 6, 7)
    with pytest.raises(ConfigError, match="learning_rat"):
        load_recipe(place, ["training.learning_rat=0.1"])


def test_the_example_network_is_the_packages_own() -> None:
    example = Path(__file__).parents[3] / "examples" / "networks" / "grapheme.nl"
    assert example.read_text() == NETWORK
    assert parameters(network(BrainRecipe())) < 5_000_000


def test_documents_are_of_the_training_split_and_the_same_every_time() -> None:
    rows = chunk(0, 3, 2)
    assert rows and all(split_of(row.key) == TRAIN for row in rows)
    assert [row.tokens for row in chunk(0, 3, 2)] == [row.tokens for row in rows]
    assert {row.key for row in rows}.isdisjoint(item.key for item in level(3, 100, 0, TEST_IID))


def test_a_stream_goes_on_where_it_was() -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as maker:
        whole, first = Stream(0, 1), Stream(0, 1)
        rows = whole.take(4000, maker)
        again = first.take(1500, maker)
        first.prepare(3, maker)
        later = Stream(0, 1, first.place)
        later.prepare(2, maker)
        again += later.take(4000 - sum(row.positions for row in again), maker)
    assert [row.key for row in rows] == [row.key for row in again]


def test_an_epochs_batches_hold_every_document_once() -> None:
    rows = [row for number in (1, 2, 6) for row in chunk(0, number, 0)]
    found = batches(rows, 16, 0, 3)
    assert sum(batch.rows for batch in found) == len(rows)
    assert {batch.tokens_BT.shape[1] for batch in found} <= set(LENGTHS)
    assert all(batch.tokens_BT.shape[0] == 16 for batch in found)
    learnt = sum(int(batch.mask_BT.sum()) for batch in found)
    assert learnt == sum(sum(row.mask) for row in rows)


def test_a_packed_row_reads_as_its_documents_alone() -> None:
    import alexandra as ax

    graph = compile_network(NETWORK, constants={"width": 16, "layers": 2, "heads": 2, "hidden": 32})
    model = ax.bind(packed_graph(graph), backend="native", seed=1)
    (batch, *_) = batches(chunk(0, 2, 0)[:20], 16, 0, 0)
    whole = model.forward({"tokens": batch.tokens_BT, "documents": batch.segments_BT})["logits"]
    row, first, last = batch.places[-1]
    alone = ax.bind(graph, backend="native", weights=model.weights)
    own = alone.forward({"tokens": batch.tokens_BT[row : row + 1, first:last]})["logits"]
    assert np.allclose(whole[row, first:last], own[0], atol=1e-4)


def test_a_killed_run_goes_on_to_the_same_curve(tmp_path: Path) -> None:
    recipe = small(checkpoint_every=1)
    recipe = recipe.model_copy(update={"paths": recipe.paths.model_copy(update={"keep": 9})})
    whole = run(recipe, tmp_path / "whole")
    assert whole.result.steps == 4
    for epoch in (1, 2, 3):
        place = tmp_path / f"killed-{epoch}"
        shutil.copytree(tmp_path / "whole", place, ignore=shutil.ignore_patterns("model"))
        for later in range(epoch + 1, 5):
            (place / "checkpoints" / f"step-{later:08d}.safetensors").unlink()
        found = run(recipe, place, resume=True)
        assert found.result.resumed_at == epoch
        assert read_bytes(place / "metrics.jsonl") == read_bytes(tmp_path / "whole" / "metrics.jsonl")
        weights, again = read_model(whole.model).weights, read_model(found.model).weights
        assert weights is not None and again is not None
        assert all(np.array_equal(array, again[name]) for name, array in weights.items())
    with pytest.raises(StorageError, match="holds a run already"):
        run(recipe, tmp_path / "whole")


def test_the_curriculum_goes_on_when_time_is_up_and_then_learns_every_level(tmp_path: Path) -> None:
    log = tmp_path / "training.log"
    recipe = small(epochs=5)
    run(recipe, tmp_path / "run", logs=[SeedLog(log, recipe)])
    epochs = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [one["level"] for one in epochs] == [1, 1, 2, 2, 2]
    assert [one.get("left") for one in epochs] == [0, 1, 0, 1, None]
    text = log.read_text()
    assert "[Level 1] Epoch 1/2" in text and "  Batch " in text and "Epoch complete: avg_loss=" in text
    assert "[Level 1] Leaving for Level 2" in text and "[All levels] Epoch 5/5" in text


def learnt_little() -> tuple[Solver, dict[str, np.ndarray]]:
    import alexandra as ax

    graph = network(small())
    weights = dict(ax.bind(graph, backend="native", seed=3).weights.items())
    return Solver(graph, weights), weights


def test_models_that_know_nothing_score_near_zero() -> None:
    solver, weights = learnt_little()
    items = [item for number in (1, 2, 5, 7) for item in level(number, 25, 1, TEST_IID)]
    assert score(answered(solver.write, items)).share < 0.05
    assert score(answered(echo, items)).share < 0.05
    mixed = shuffled(weights)
    assert all(sorted(mixed[name].ravel()) == sorted(array.ravel()) for name, array in weights.items())


def test_the_engines_word_needs_no_answer_of_the_item() -> None:
    items = list(level(5, 20, 2, VAL)) + list(level(6, 20, 2, VAL))
    own = [judged(item, Written(item.answer, 0.9, (), True)) for item in items]
    assert all(one.right and one.verified for one in own)
    wrong = [judged(item, Written("(+ x 17)", 0.9, (), True)) for item in items]
    assert not any(one.right or one.verified for one in wrong)
    assert verified_at(learnt_little()[0], own, 4) == Score(40, 40)


def test_a_threshold_holds_back_what_is_not_known() -> None:
    items = list(level(1, 40, 2, VAL))
    own = [
        judged(item, Written(item.answer if place % 4 else "0", 0.99 if place % 4 else 0.2, (), True))
        for place, item in enumerate(items)
    ]
    threshold = threshold_for(own, 0.999)
    found = abstention(own, threshold)
    assert found.emitted.share == 1.0 and found.coverage == 0.75 and threshold == 0.99
    assert calibration_error(own) < 0.1
    assert threshold_for([one for one in own if not one.right], 0.999) == 1.0


def test_nearby_questions_and_sums_are_questions_of_the_level() -> None:
    changed = [nearby(item) for item in level(6, 30, 4, TEST_IID)]
    kept = [one for one in changed if one is not None]
    assert len(kept) > 20
    whole = list(level(5, 20, 4, TEST_IID))
    found = joined(whole[0], whole[1])
    assert found is not None and found.input.startswith("(derive (+ ") and found.key != whole[0].key


def test_edges_lead_from_operators_to_operands_and_from_digits_to_digits() -> None:
    tokens = tuple(encode(("+", 12, ("set", "x", -3))))
    edges = [(int(i), int(j), int(k)) for i, j, k in np.argwhere(edges_of(tokens))]
    words = [WORDS[token] for token in tokens]
    assert words == ["+", "2@0", "1@1", "set", "x", "~", "3@0", "end"]
    assert edges == [(0, 1, 0), (0, 3, 1), (1, 2, 0), (3, 4, 0), (3, 5, 1), (3, 7, 2), (5, 6, 0)]


def test_the_structural_loss_is_near_zero_where_the_network_is_right_and_its_gradient_lowers_it() -> None:
    pytest.importorskip("torch")
    (batch, *_) = batches(chunk(0, 2, 0)[:3], 16, 0, 0)
    targets, mask = batch.targets_BT, batch.mask_BT.astype(np.float32)
    assert len(shown(targets, mask)) >= 3
    spec = StructuralLoss(temperature=0.1, iterations=20, rounds=2)
    right = 20.0 * np.eye(VOCABULARY, dtype=np.float32)[targets]
    assert loss_of(right, targets, mask, spec, False)[0] < 0.01
    unsure = np.zeros_like(right)
    loss, gradient = loss_of(unsure, targets, mask, spec, False)
    assert loss > 0.5 and np.isfinite(gradient).all()
    assert loss_of(unsure - 20 * gradient, targets, mask, spec, False)[0] < loss
    assert loss_of(unsure, targets, mask, spec, True)[0] == pytest.approx(loss + np.log(VOCABULARY), abs=1e-3)
    nothing, flat = loss_of(unsure, targets, 0 * mask, spec, False)
    assert nothing == 0 and not flat.any()


def test_the_structural_loss_alone_is_selectable_and_resumes(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    recipe = small(checkpoint_every=1, epochs=2)
    paths = recipe.paths.model_copy(update={"keep": 9})
    recipe = recipe.model_copy(
        update={"paths": paths, "loss": recipe.loss.model_copy(update={"objective": "structural"})}
    )
    run(recipe, tmp_path / "whole")
    shutil.copytree(tmp_path / "whole", tmp_path / "killed", ignore=shutil.ignore_patterns("model"))
    (tmp_path / "killed" / "checkpoints" / "step-00000002.safetensors").unlink()
    run(recipe, tmp_path / "killed", resume=True)
    assert read_bytes(tmp_path / "killed" / "metrics.jsonl") == read_bytes(tmp_path / "whole" / "metrics.jsonl")


def test_what_is_still_wrong_gets_the_larger_share() -> None:
    import alexandra as ax

    recipe = small()
    recipe = recipe.model_copy(update={"curriculum": recipe.curriculum.model_copy(update={"by_error": True})})
    graph = network(recipe)
    stage = CurriculumStage(recipe, graph, ax.bind(packed_graph(graph), backend="native"))
    stage.level = 3
    equal = stage._shares()
    stage.wrong = {1: 0.0, 2: 0.5}
    shares = stage._shares()
    assert sum(shares.values()) == pytest.approx(1) and equal == pytest.approx({1: 0.2, 2: 0.8})
    assert shares[2] / shares[1] == pytest.approx(4 * 0.55 / 0.05)
    again = CurriculumStage(recipe, graph, stage.model)
    again.restore({**stage.arrays(), "run/step": np.array(0, np.int64)})
    assert again._shares() == shares


@pytest.mark.parametrize("number", range(1, 8))
def test_questions_beside_others_are_of_their_level_or_none(number: int) -> None:
    items = list(level(number, 60, 3, TEST_IID))
    made = [one for one in map(nearby, items) if one is not None]
    assert made and {one.level for one in made} == {number}
    sums = [joined(a, b) for a, b in zip(items[::2], items[1::2], strict=True)]
    assert any(sums) == (number in (5, 6))
