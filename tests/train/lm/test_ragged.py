"""Updates that leave out padding, rows without weight and doubles are those of the batch as it came."""

from collections.abc import Mapping

import numpy as np
import pytest

from alexandra.backends.bind import available, bind
from alexandra.errors import BackendError
from alexandra.ir.graph import Graph
from alexandra.ir.weights import initialise
from alexandra.lang.nureon import compile_network
from alexandra.objectives.spec import AdamW, WeightedCrossEntropy
from alexandra.rng import derive
from alexandra.train.lm.fed import FedRun, Optimization
from alexandra.train.lm.ragged import BLOCK, RaggedRun, grouped, is_causal

V = 11
TEXT = """
LAYER INPUT name=tokens shape=(SEQ) dtype=int32
LAYER INPUT name=segments shape=(SEQ) dtype=int32
LAYER EMBEDDING name=e vocab=11 size=16
LAYER RMSNORM name=n
LAYER ATTENTION name=a heads=2 rope=TRUE
LAYER FFN name=f hidden=24
LAYER OUTPUT name=y size=11
CONNECT tokens -> e -> n -> a -> f -> y
CONNECT segments -> a
"""
needs_engine = pytest.mark.skipif(bool(available("native")), reason="the native engine is not built")
Batch = tuple[dict[str, np.ndarray], dict[str, np.ndarray]]


def network(old: str = "", new: str = "") -> Graph:
    return compile_network(TEXT.replace(old, new) if old else TEXT)


def batch(number: int, rows: int, width: int) -> Batch:
    """Rows of all lengths; a third has no weight, a third says what another row says, weights may be negative."""
    stream = derive(5, "batch", number)
    draws = stream.at(0).below(1 << 20, 3 * rows).reshape(rows, 3)
    tokens = stream.at(1).below(V, rows * (width + 1)).reshape(rows, width + 1).astype(np.int32)
    weights = stream.at(2).normal(rows * width).reshape(rows, width).astype(np.float32)
    lengths = 1 + draws[:, 0] % width
    for row, (kind, other) in enumerate(draws[:, 1:].tolist()):
        if kind % 3 == 1 and row:
            tokens[row], lengths[row] = tokens[other % row], lengths[other % row]
        weights[row, lengths[row] if kind % 3 else 0 :] = 0
        weights[row, : lengths[row] // 3] = 0
    inputs = {"tokens": np.ascontiguousarray(tokens[:, :-1]), "segments": np.ones((rows, width), np.int32)}
    return inputs, {"classes": np.ascontiguousarray(tokens[:, 1:]), "weights": weights}


def totals(groups: list[Batch] | list[tuple[Mapping[str, np.ndarray], Mapping[str, np.ndarray]]]) -> dict[bytes, float]:
    """The weight of each (beginning of a row, token that follows)."""
    found: dict[bytes, float] = {}
    for inputs, targets in groups:
        for row, t in np.argwhere(targets["weights"] != 0).tolist():
            key = inputs["tokens"][row, : t + 1].tobytes() + b"|" + targets["classes"][row, t].tobytes()
            found[key] = found.get(key, 0.0) + float(targets["weights"][row, t])
    return found


@pytest.mark.parametrize("seed", range(8))
def test_every_position_keeps_its_weight_and_nothing_is_there_twice(seed: int) -> None:
    given = batch(seed, 70, 37)
    groups = grouped(*given)
    wanted, found = totals([given]), totals(groups)
    assert wanted.keys() == found.keys() and len(wanted) > 200
    for key, weight in wanted.items():
        assert found[key] == pytest.approx(weight, abs=1e-5)
    widths = [group[0]["tokens"].shape[1] for group in groups]
    assert widths == sorted(set(widths)) and widths[-1] <= 37
    assert sum(len(targets["weights"]) for _, targets in groups) < np.count_nonzero(given[1]["weights"].any(1))
    spent = sum(targets["weights"].size for _, targets in groups)
    assert spent < 0.6 * given[1]["weights"].size, "a third has no weight, and the others half the length"


def test_a_batch_without_weight_is_one_row() -> None:
    inputs, targets = batch(0, 9, 12)
    ((_, found),) = grouped(inputs, {**targets, "weights": np.zeros((9, 12), np.float32)})
    assert found["weights"].shape[0] == 1 and not found["weights"].any()


def run_of(kind: type[FedRun], threads: int = 1, **settings: object) -> FedRun:
    graph = network()
    model = bind(graph, "native", initialise(graph, 3), threads=threads)
    options = Optimization(AdamW(lr=0.02, weight_decay=0.01), **settings)  # type: ignore[arg-type]
    if kind is RaggedRun:
        return RaggedRun(model, options)
    return FedRun(model, WeightedCrossEntropy(normalizer=1.0), options)


SHAPES = [(70, 37), (70, 37), (3, 5), (90, 20), (17, 64), (70, 37), (1, 2), (48, 48)]


@needs_engine
@pytest.mark.parametrize("micro", [0, 8])
def test_steps_are_those_of_the_whole_batch(micro: int) -> None:
    ragged, whole = run_of(RaggedRun, micro_rows=micro), run_of(FedRun)
    for number, shape in enumerate(SHAPES):
        given = batch(number, *shape)
        assert ragged.update(*given) == pytest.approx(whole.update(*given), rel=2e-4, abs=2e-4)
        assert ragged.take_norm() == pytest.approx(whole.take_norm(), rel=1e-3)
    assert ragged.step == whole.step == len(SHAPES)
    ours, theirs = ragged.arrays(), whole.arrays()
    assert ours.keys() == theirs.keys()
    for name, array in theirs.items():
        np.testing.assert_allclose(ours[name], array, atol=2e-4, err_msg=name)


@needs_engine
def test_threads_change_no_bit() -> None:
    one, two = run_of(RaggedRun), run_of(RaggedRun, threads=2)
    for number, shape in enumerate(SHAPES):
        given = batch(number, *shape)
        assert one.update(*given) == two.update(*given)
    for name, array in one.arrays().items():
        np.testing.assert_array_equal(two.arrays()[name], array, err_msg=name)


@needs_engine
@pytest.mark.parametrize("first", [1, 2, 4, 6, 7])
def test_a_restored_run_goes_on_to_the_same_bits(first: int) -> None:
    whole, again = run_of(RaggedRun), run_of(RaggedRun)
    for number in range(first):
        whole.update(*batch(number, *SHAPES[number]))
    again.update(*batch(9, 20, 20))  # what it did before is forgotten
    again.restore(whole.arrays())
    assert again.step == first
    for number in range(first, len(SHAPES)):
        given = batch(number, *SHAPES[number])
        assert again.update(*given) == whole.update(*given)
    for name, array in whole.arrays().items():
        np.testing.assert_array_equal(again.arrays()[name], array, err_msg=name)


@needs_engine
def test_a_loss_that_is_no_number_changes_nothing() -> None:
    run = run_of(RaggedRun)
    inputs, targets = batch(0, 40, 30)
    run.update(inputs, targets)
    before = run.arrays()
    bad = targets["weights"].copy()
    bad[np.flatnonzero(bad.any(1))[0], 0] = 3e38
    with pytest.raises(BackendError, match="at step 1"):
        run.update(inputs, {**targets, "weights": bad})
    for name, array in before.items():
        np.testing.assert_array_equal(run.arrays()[name], array, err_msg=name)
    run.update(inputs, targets)
    assert run.step == 2


@pytest.mark.parametrize(
    ("old", "new", "causal"),
    [
        ("", "", True),
        ("rope=TRUE", "rope=TRUE causal=FALSE", False),
        ("rope=TRUE", "rope=TRUE window=4", True),
        ("LAYER FFN name=f hidden=24", "LAYER DROPOUT name=f rate=0.1", False),
        ("LAYER FFN name=f hidden=24", "LAYER LSTM name=f size=16", False),
        ("LAYER FFN name=f hidden=24", "LAYER MOE name=f experts=4 top_k=2 hidden=8", False),
        ("(SEQ)", "(12)", False),
    ],
)
def test_only_networks_whose_positions_read_themselves_and_earlier_ones(old: str, new: str, causal: bool) -> None:
    assert is_causal(network(old, new)) is causal


def test_every_input_must_be_a_number_for_each_position() -> None:
    more = "LAYER INPUT name=x shape=(SEQ, 16)\nLAYER ADD name=s\nCONNECT x -> s\nCONNECT tokens -> e -> s -> n"
    assert not is_causal(network("CONNECT tokens -> e -> n", more))


def test_widths_are_at_most_an_eighth_above_the_rows() -> None:
    for length in (1, 5, 16, 17, 40, 100, 250):
        weights = np.zeros((3, 300), np.float32)
        weights[:, : length] = 1.0
        tokens = derive(3, "rows").below(9, 900).reshape(3, 300).astype(np.int32)
        ((_, targets),) = grouped({"tokens": tokens}, {"classes": tokens, "weights": weights})
        assert length <= targets["weights"].shape[1] <= max(length + 3, 1.125 * length + 1)


def test_a_block_has_as_many_rows_as_the_engine_computes_side_by_side() -> None:
    inputs, targets = batch(1, 64, 40)
    targets = {**targets, "weights": np.where(np.arange(40) < 1 + np.arange(64)[:, None] % 40, 1.0, 0.0)}
    inputs = {**inputs, "tokens": np.arange(64 * 40, dtype=np.int32).reshape(64, 40) % V}
    sizes = [len(found["weights"]) for _, found in grouped(inputs, targets)]
    assert sum(sizes) <= 64 and all(size % BLOCK == 0 for size in sizes[:-1])
