"""A Graph decodes as it is: step by step what the reference backend says of the whole sequence."""

import numpy as np
import pytest
from tests.backends.decoders import config, tokens

from alexandra.backends.bind import bind
from alexandra.backends.decode import Generator, Sampling
from alexandra.backends.decode_config import DecoderConfig, Rope
from alexandra.backends.decode_graph import decoder_from_weights, decoder_graph, graph_decoder
from alexandra.errors import BackendError
from alexandra.ir.build import Builder, Layer
from alexandra.ir.graph import Graph


def logits_of(graph: Graph, text: list[int], seed: int = 0) -> tuple[np.ndarray, object]:
    """What the reference backend says, as log-probabilities, and the bound model."""
    model = bind(graph, backend="reference", seed=seed)
    found = model.forward({graph.inputs[0].name: np.array([text], np.int32)})[graph.outputs[0].name][0]
    return np.log(found.astype(np.float64)), model


def log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


def graph(kind: str) -> Graph:
    """A decoder of one kind of block over 40 tokens."""
    b = Builder(kind)
    x = b.layer(Layer("embedding", vocab=40, size=32), b.input("tokens", ("S",), dtype="int32"))
    common = {"heads": 4, "causal": True}
    if kind == "gpt2":
        x = b.layer(Layer("position", length=64), x)
        h = b.layer(Layer("attention", bias=True, **common), b.layer(Layer("layernorm"), x))
    elif kind == "sinusoidal":
        x = b.layer(Layer("position", kind="sinusoidal"), x)
        h = b.layer(Layer("attention", window=5, softcap=3.0, scale=0.5, **common), x)
    else:
        layout = "interleaved" if kind == "interleaved" else "half"
        more = {"rope": True, "layout": layout, "kv_heads": 2, "qk_norm": kind == "qwen3", "bias": kind == "qwen2"}
        more |= {"dims": 4} if kind == "partial" else {}
        more |= {"scaling": "llama3", "factor": 8.0, "original": 16} if kind == "llama3" else {}
        more |= {"scaling": "yarn", "factor": 4.0, "original": 16} if kind == "yarn" else {}
        h = b.layer(Layer("attention", **common, **more), b.layer(Layer("rmsnorm"), x))
    x = b.layer(Layer("add"), x, h)
    h = b.layer(Layer("rmsnorm"), x)
    if kind == "moe":
        h = b.layer(Layer("moe", experts=6, top_k=2, hidden=32, shared_experts=1), h)
    else:
        h = b.layer(Layer("ffn", hidden=64, activation="gelu", gated=kind != "gpt2"), h)
    x = b.layer(Layer("dropout", rate=0.1), b.layer(Layer("add"), x, h))
    b.output("next", x, size=40, activation="softmax")
    return b.graph()


KINDS = ("gpt2", "sinusoidal", "half", "interleaved", "partial", "llama3", "yarn", "qwen2", "qwen3", "moe")


@pytest.mark.parametrize("kind", KINDS)
def test_steps_give_what_the_reference_gives_for_the_whole_sequence(kind: str) -> None:
    text = tokens(33, 40)
    wanted, model = logits_of(graph(kind), text)
    decoder = graph_decoder(model.graph, model.weights)  # type: ignore[attr-defined]
    for chunk in (5, 64):
        found = Generator(decoder, context=48, chunk=chunk).logits(text)
        assert np.abs(log_softmax(found) - wanted).max() < 2e-5


def test_a_graph_decoder_generates_in_batches_as_alone() -> None:
    _, model = logits_of(graph("moe"), tokens(4, 40))
    decoder = graph_decoder(model.graph, model.weights)  # type: ignore[attr-defined]
    prompts = [tokens(n, 40, n) for n in (2, 9, 5)]
    sampling = Sampling(12, temperature=1.0)
    together = Generator(decoder, slots=3, context=64).generate(prompts, sampling)
    assert together[0] == Generator(decoder, context=64).generate(prompts[:1], sampling)[0]
    quantised = Generator(decoder.converted("Q8_0"), context=64)
    error = np.abs(quantised.logits(prompts[1]) - Generator(decoder, context=64).logits(prompts[1]))
    assert 0 < error.max() < 0.1


def test_layers_that_look_ahead_are_refused_by_name() -> None:
    b = Builder("both ways")
    x = b.layer(Layer("embedding", vocab=40, size=32), b.input("tokens", ("S",), dtype="int32"))
    x = b.layer(Layer("attention", heads=4, causal=False), x, name="mixer")
    b.output("next", x, size=40)
    model = bind(b.graph(), backend="reference", seed=0)
    with pytest.raises(BackendError, match=r"'mixer.*' sees later positions"):
        Generator(graph_decoder(model.graph, model.weights))


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3"])
def test_a_trained_graph_comes_back_under_the_names_of_files(architecture: str) -> None:
    c: DecoderConfig = config(architecture, rope=Rope(10000.0, 16), window=9)
    made = decoder_graph(c)
    text = tokens(20)
    wanted, model = logits_of(made, text)
    named = decoder_from_weights(c, model.weights)  # type: ignore[attr-defined]
    assert np.abs(log_softmax(Generator(named).logits(text)) - wanted).max() < 2e-5
