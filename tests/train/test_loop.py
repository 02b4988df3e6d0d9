"""The one loop: it learns, stops early, keeps the best weights, respects the deadline, names a diverging loss."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.metrics import log_loss

import alexandra as ax
from alexandra.errors import BackendError
from alexandra.ir import build
from alexandra.ir.check import bind_sizes
from alexandra.objectives.spec import MSE, SGD, AdamW, CrossEntropy, Program
from alexandra.train.loop import Batch, Epoch, Plan, fit_loop
from alexandra.train.model import BoundModel


def iris() -> tuple[np.ndarray, np.ndarray]:
    x, y = load_iris(return_X_y=True)
    return ((x - x.mean(0)) / x.std(0)).astype(np.float32), y.astype(np.int64)


def model(seed: int = 1, backend: str = "reference") -> BoundModel:
    return ax.bind(bind_sizes(build.mlp(16), {"x": 4, "y": 3}), backend, seed=seed)


def test_fit_lowers_the_loss_and_answers_most_irises() -> None:
    x, y = iris()
    bound = model()
    history = bound.fit({"x": x}, y, optimizer=AdamW(lr=0.02), epochs=30, batch_size=16)
    assert history.epochs[-1].train_loss < 0.3 * history.epochs[0].train_loss
    assert (bound.forward({"x": x})["y"].argmax(1) == y).mean() > 0.93
    assert history.steps == 30 * math.ceil(150 / 16) == len(history.losses)


def test_best_weights_are_kept_and_training_stops_when_validation_gets_worse() -> None:
    x, y = iris()
    bound = model()
    history = bound.fit(
        {"x": x[::10]}, y[::10], optimizer=AdamW(lr=0.1), epochs=300, batch_size=4,
        validation=({"x": x[1::2]}, y[1::2]), patience=10,
    )  # fmt: skip
    assert len(history.epochs) == history.best_epoch + 10
    assert "10 epochs" in history.stopped
    now = bound.loss({"x": x[1::2]}, y[1::2], CrossEntropy())
    assert now == pytest.approx(min(epoch.valid_loss for epoch in history.epochs), rel=1e-6)


def test_a_passed_deadline_stops_after_one_epoch_and_says_so() -> None:
    x, y = iris()
    plan = Plan(Program(CrossEntropy()), epochs=50, deadline=time.monotonic())
    history = fit_loop(model().inner, Batch({"x": x}, y), plan)
    assert (len(history.epochs), history.stopped) == (1, "time budget")


def test_no_rows_and_a_diverging_loss_are_named() -> None:
    x, y = iris()
    with pytest.raises(BackendError, match="at least one row"):
        fit_loop(model().inner, Batch({"x": x[:0]}, y[:0]), Plan(Program(CrossEntropy())))
    linear = ax.bind(bind_sizes(build.linear(output="linear"), {"x": 4, "y": 1}), "reference")
    with pytest.raises(BackendError, match=r"(?i)loss|step|epoch"), np.errstate(all="ignore"):
        linear.fit({"x": x * 1e3}, y.astype(np.float32), optimizer=SGD(lr=10.0), epochs=200)


def test_default_objective_follows_the_output() -> None:
    from alexandra.train.model import default_objective

    assert default_objective(bind_sizes(build.mlp(4), {"x": 2, "y": 3})) == CrossEntropy()
    assert default_objective(bind_sizes(build.mlp(4, output="linear"), {"x": 2, "y": 1})) == MSE()


def test_the_loss_agrees_with_scikit_learn_on_the_same_answers() -> None:
    x, y = iris()
    bound = model()
    answers = bound.forward({"x": x})["y"]
    assert bound.loss({"x": x}, y, CrossEntropy()) == pytest.approx(log_loss(y, answers, labels=[0, 1, 2]), rel=1e-6)


def test_fitting_with_a_callback_or_with_a_deadline_is_the_same_run() -> None:
    """Without them several short epochs are one call of the backend."""
    x, y = iris()
    settings = {"epochs": 40, "batch_size": 16, "validation": ({"x": x[::3]}, y[::3]), "patience": 5, "seed": 2}
    plain, heard = model(), model()
    seen: list[Epoch] = []
    one = plain.fit({"x": x}, y, optimizer=AdamW(lr=0.1), **settings)
    two = heard.fit({"x": x}, y, optimizer=AdamW(lr=0.1), on_epoch=seen.append, **settings)
    assert one.epochs == two.epochs == tuple(seen) and one.best_epoch == two.best_epoch
    assert plain.weights == heard.weights
    np.testing.assert_array_equal(one.losses, two.losses)


def test_frozen_layers_and_accumulated_batches_reach_the_run() -> None:
    x, y = iris()
    bound, big = model(), model()
    before = bound.weights
    first = next(iter(before)).partition(".")[0]
    history = bound.fit({"x": x}, y, epochs=2, batch_size=5, accumulate=6, frozen=(f"{first}.",))
    assert history.steps == 10
    for name, array in bound.weights.items():
        assert (array == before[name]).all() == name.startswith(f"{first}.")
    big.fit({"x": x}, y, epochs=2, batch_size=30, frozen=(f"{first}.",))
    for name, array in bound.weights.items():
        np.testing.assert_allclose(array, big.weights[name], atol=1e-6)


def test_equal_seeds_give_equal_bytes_and_other_seeds_do_not() -> None:
    x, y = iris()
    runs = []
    for seed in (3, 3, 4):
        bound = model(seed)
        bound.fit({"x": x}, y, epochs=2, seed=seed)
        runs.append(bound.weights.content_hash)
    assert runs[0] == runs[1] != runs[2]
