"""Generation: a cache changes nothing, sampling is a function of the seed, and what cannot generate is refused."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from alexandra.backends.pytorch import TorchModel  # noqa: E402
from alexandra.backends.pytorch_generate import Sampling, generate  # noqa: E402
from alexandra.errors import BackendError  # noqa: E402
from alexandra.ir.build import Builder, Layer  # noqa: E402
from alexandra.ir.graph import Attr  # noqa: E402
from alexandra.ir.weights import WeightSet, initialise  # noqa: E402
from alexandra.rng import derive  # noqa: E402


def model(extra: Layer | None = None, **attrs: Attr) -> TorchModel:
    build = Builder()
    h = build.layer(Layer("embedding", vocab=19, size=16), build.input("tokens", ("S",), "int32"))
    h = build.layer(Layer("position", length=40), h)
    for number in range(2):
        a = build.layer(Layer("attention", heads=4, kv_heads=2, **attrs), h, name=f"a{number}")
        h = build.layer(Layer("add"), h, a)
        h = build.layer(Layer("moe", experts=4, top_k=2, hidden=8), h)
    if extra:
        h = build.layer(extra, h, name="extra")
    build.output("y", build.layer(Layer("rmsnorm"), h), size=19, activation="softmax")
    graph = build.graph()
    weights = {name: 3.0 * array for name, array in initialise(graph, 3).items()}
    return TorchModel(graph, WeightSet(weights))


PROMPT = {"tokens": derive(0, "prompt").below(19, 12).reshape(3, 4).astype(np.int32)}
PATTERNS = [{"rope": True}, {"window": 3}, {"relative_buckets": 8}, {"softcap": 2.0}, {"window": 2, "globals": 1}]


@pytest.mark.parametrize("attrs", PATTERNS, ids=str)
def test_a_cache_changes_no_token(attrs: dict[str, Attr]) -> None:
    found = model(**attrs)
    plain = generate(found, PROMPT, 20, cache=False)
    np.testing.assert_array_equal(generate(found, PROMPT, 20), plain)
    np.testing.assert_array_equal(plain[:, :4], PROMPT["tokens"])
    assert plain.shape == (3, 24) and plain.dtype == np.int32 and len(np.unique(plain)) > 3


def test_sampling_is_a_function_of_the_seed_and_covers_what_it_may() -> None:
    found = model()
    hot = Sampling(temperature=2.0, seed=1)
    first = generate(found, PROMPT, 20, hot)
    np.testing.assert_array_equal(first, generate(found, PROMPT, 20, hot, cache=False))
    assert (first != generate(found, PROMPT, 20, Sampling(temperature=2.0, seed=2))).any()
    greedy = generate(found, PROMPT, 20)
    for narrow in (Sampling(temperature=2.0, top_k=1), Sampling(temperature=2.0, top_p=1e-9)):
        np.testing.assert_array_equal(generate(found, PROMPT, 20, narrow), greedy)


def test_a_stop_token_ends_its_row_and_the_last_one_ends_it_all() -> None:
    found = model()
    free = generate(found, PROMPT, 20)
    stop = int(free[0, 6])
    stopped = generate(found, PROMPT, 20, Sampling(stop=(stop,)))
    for row, whole in zip(stopped, free, strict=True):
        ends = np.flatnonzero(whole[4:] == stop)
        upto = 4 + ends[0] + 1 if len(ends) else len(row)
        np.testing.assert_array_equal(row[:upto], whole[:upto][: len(row)])
        assert (row[upto:] == stop).all()


@pytest.mark.parametrize("extra", [Layer("conv1d", size=16), Layer("gru", size=16)], ids=str)
def test_layers_that_see_later_positions_are_named(extra: Layer) -> None:
    with pytest.raises(BackendError, match=r"cannot generate: layer 'extra.*' \((conv2d|gru)\)"):
        generate(model(extra), PROMPT, 2)
    with pytest.raises(BackendError, match=r"cannot generate: layer 'a0.sdpa' \(sdpa\) lets positions see later ones"):
        generate(model(causal=False), PROMPT, 2)
    with pytest.raises(BackendError, match="no input 'token'\n.*Did you mean 'tokens'"):
        generate(model(), PROMPT, 2, grows="token")
