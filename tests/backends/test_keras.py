"""The Keras backend: saved and read in Keras' formats, trained by fit, and its weights on every other backend."""

from pathlib import Path

import numpy as np
import pytest

from alexandra.backends.bind import available, bind
from alexandra.ir.check import make_graph
from alexandra.ir.graph import Graph, Node
from alexandra.objectives.spec import AdamW, CrossEntropy, Program
from alexandra.rng import derive

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(available("keras")), reason="the extra keras is not installed"),
]


def network() -> Graph:
    return make_graph(
        "small",
        [
            Node("tokens", "input", (), {"shape": ("SEQ",), "dtype": "int32"}),
            Node("e", "embedding", ("tokens",), {"vocab": 11, "size": 8}),
            Node("a", "attention", ("e",), {"heads": 2, "rope": True}),
            Node("s", "add", ("e", "a")),
            Node("n", "rmsnorm", ("s",)),
            Node("y", "output", ("n",), {"size": 11}),
        ],
    )


TOKENS = derive(0, "tokens").below(11, 48).reshape(8, 6).astype(np.int32)


def test_weights_trained_here_give_the_same_outputs_everywhere() -> None:
    model = bind(network(), "keras", seed=1)
    run = model.start(Program(CrossEntropy(), AdamW(lr=0.01), batch_size=4), {"tokens": TOKENS}, TOKENS)
    losses = model.run(run, 10)
    assert losses[-1] < losses[0]
    wanted = model.forward({"tokens": TOKENS})["y"]
    for name in ("reference", "native", "torch"):
        if not available(name):
            other = bind(network(), name, model.weights)
            np.testing.assert_allclose(other.forward({"tokens": TOKENS})["y"], wanted, atol=1e-5)


def test_a_keras_model_is_saved_and_read_in_its_own_formats(tmp_path: Path) -> None:
    keras = pytest.importorskip("keras")

    from alexandra.backends.keras import checkpoint_of, keras_model, weights_of

    model = keras_model(network(), seed=2)
    wanted = np.array(model(TOKENS))
    model.save(tmp_path / "net.keras")
    again = keras.saving.load_model(tmp_path / "net.keras")
    np.testing.assert_array_equal(np.array(again(TOKENS)), wanted)
    model.save_weights(tmp_path / "net.weights.h5")
    other = keras_model(network(), seed=3)
    other.load_weights(tmp_path / "net.weights.h5")
    np.testing.assert_array_equal(np.array(other(TOKENS)), wanted)
    checkpoint_of(model).write(str(tmp_path / "checkpoint"))
    third = keras_model(network(), seed=4)
    checkpoint_of(third).read(str(tmp_path / "checkpoint")).assert_consumed()
    np.testing.assert_array_equal(np.array(third(TOKENS)), wanted)
    for name, array in weights_of(model).items():
        np.testing.assert_array_equal(weights_of(again)[name], array)


def test_fit_trains_and_the_weights_come_back() -> None:
    keras = pytest.importorskip("keras")

    from alexandra.backends.keras import keras_model, weights_of

    model = keras_model(network(), seed=2)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=keras.optimizers.Adam(0.01), loss=loss)
    history = model.fit(TOKENS, TOKENS, epochs=8, batch_size=4, verbose=0).history["loss"]
    assert history[-1] < history[0]
    found = bind(network(), "reference", weights_of(model)).forward({"tokens": TOKENS})["y"]
    np.testing.assert_allclose(found, np.array(model(TOKENS)), atol=1e-5)
