"""Generation through the C interface gives Python's tokens and bits; its example runs clean under a memory checker;
plans and files that do not fit are refused."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("alexandra._native", reason="the native engine is not built")
from tests.backends.decoders import decoder, tokens

from alexandra.backends.decode import FINISHES, DecoderModel, Generator, Sampling, load_decoder
from alexandra.backends.decode_describe import describe_decoder, save_decoder
from alexandra.backends.decode_graph import GraphDecoder, graph_decoder
from alexandra.backends.gguf_export import export_gguf
from alexandra.errors import BackendError
from alexandra.ir.build import Builder, Layer
from alexandra.ir.graph import Graph
from alexandra.ir.weights import WeightSet, initialise
from alexandra.rng import derive

from . import c_library as c

CONTEXT = 48


@pytest.fixture(scope="module")
def library() -> c.Library:
    return c.Library()


def saved(folder: Path, kind: str = "F32", architecture: str = "llama") -> tuple[DecoderModel, Path]:
    model = load_decoder(export_gguf(decoder(architecture, vocab=300), folder / "m.gguf", kind))
    return model, folder / "m.gguf"


def plan(model: DecoderModel | GraphDecoder, file: Path) -> bytes:
    return json.dumps(describe_decoder(model, file, CONTEXT)).encode()


@pytest.mark.parametrize("architecture", ["llama", "qwen3", "gpt2"])
@pytest.mark.parametrize("kind", ["F32", "BF16", "Q8_0", "Q4_0"])
def test_it_generates_what_python_generates(library: c.Library, tmp_path: Path, kind: str, architecture: str) -> None:
    model, file = saved(tmp_path, kind, architecture)
    python = Generator(model, slots=2, context=CONTEXT)
    ours = library.load(plan(model, file), file)
    ours.call("plan", 3)
    prompts = [tokens(n, 300, n) for n in (3, 11, 1, 6)]
    for settings in ({}, {"temperature": 0.8, "top_k": 40, "top_p": 0.9, "repetition_penalty": 1.2, "seed": 7}):
        wanted = python.generate(prompts, Sampling(20, **settings))
        for (found, logprobs, finish), row in zip(ours.decode(prompts, max_tokens=20, **settings), wanted, strict=True):
            assert (tuple(found), FINISHES[finish]) == (row.tokens, row.finish)
            assert tuple(logprobs) == row.logprobs
            assert model.tokenizer is not None
            assert [ours.text(token) for token in found] == [model.tokenizer.pieces[token] for token in found]
    np.testing.assert_array_equal(logits(ours, prompts[1]), python.logits(prompts[1]))
    sizes = ours.sizes()
    assert sizes.weights_mapped and sizes.cache > 0 and sizes.arena > 0 and sizes.weights >= file.stat().st_size // 2


def logits(model: c.CModel, prompt: list[int]) -> np.ndarray:
    return model.forward([np.array(prompt, np.int32)])[0]


def experts() -> Graph:
    b = Builder("experts")
    x = b.layer(Layer("embedding", vocab=40, size=32), b.input("tokens", ("S",), dtype="int32"))
    h = b.layer(Layer("attention", heads=4, kv_heads=2, causal=True, rope=True), b.layer(Layer("rmsnorm"), x))
    x = b.layer(Layer("add"), x, h)
    h = b.layer(Layer("moe", experts=6, top_k=2, hidden=32), b.layer(Layer("rmsnorm"), x))
    b.output("next", b.layer(Layer("add"), x, h), size=40, activation="softmax")
    return b.graph()


def test_a_graph_with_experts_generates_from_its_safetensors(library: c.Library, tmp_path: Path) -> None:
    graph = experts()
    file = initialise(graph, 3).save(tmp_path / "w.safetensors", graph)
    model = graph_decoder(graph, WeightSet.load(file))
    described = describe_decoder(model, file, CONTEXT)
    assert sum("data" in weight for weight in described["weights"]) == 1  # the table of rotations
    assert any(weight.get("at", 0) > 0 for weight in described["weights"])
    ours = library.load(json.dumps(described).encode(), file, threads=2)
    wanted = Generator(model, context=CONTEXT).generate([tokens(5, 40)], Sampling(12, temperature=1.0))[0]
    assert tuple(ours.decode([tokens(5, 40)], max_tokens=12, temperature=1.0)[0][0]) == wanted.tokens
    whole = bytearray(file.read_bytes())
    whole[-9] ^= 4
    file.write_bytes(whole)
    with pytest.raises(c.CError, match="checksum does not match"):
        library.load(json.dumps(described).encode(), file)


def test_stop_texts_and_ends_finish_a_row(library: c.Library, tmp_path: Path) -> None:
    model, file = saved(tmp_path)
    described = describe_decoder(model, file, CONTEXT)
    free = library.load(json.dumps(described).encode(), file).decode([[70, 80]], max_tokens=16, temperature=1.0)[0][0]
    texts = [model.tokenizer.pieces[token] for token in free]  # type: ignore[union-attr]
    at = next(i for i in range(3, 16) if texts[i].isascii() and texts[i].strip(b"\0"))
    stopped = library.load(json.dumps(described).encode(), file)
    found, _, finish = stopped.decode([[70, 80]], max_tokens=16, temperature=1.0, stops=(texts[at].decode(), "zz"))[0]
    assert FINISHES[finish] == "stop" and found == free[: len(found)] and len(found) <= at + 1
    described["ends"] = [free[6]]
    ended = library.load(json.dumps(described).encode(), file)
    found, _, finish = ended.decode([[70, 80]], max_tokens=16, temperature=1.0)[0]
    assert (found, FINISHES[finish]) == (free[: free.index(free[6])], "end")
    assert ended.decode([[70, 80]], max_tokens=16, temperature=1.0, ignore_end=1)[0][0] == free


def refused(status: int, message: str, call: Callable[[], object]) -> None:
    with pytest.raises(c.CError, match=message) as caught:
        call()
    assert caught.value.status == status


def test_what_does_not_fit_is_refused_with_its_values(library: c.Library, tmp_path: Path) -> None:
    model, file = saved(tmp_path, "Q8_0")
    ours = library.load(plan(model, file), file)
    long, wide = tokens(40, 300), np.zeros(49, np.int32)
    refused(c.INVALID, "40 and 20 new tokens do not fit the context of 48", lambda: ours.decode([long], max_tokens=20))
    refused(c.INVALID, "token 300 is not below the vocabulary of 300", lambda: ours.decode([[300]], max_tokens=4))
    refused(c.INVALID, "row 1: a prompt has no token", lambda: ours.decode([[1], []], max_tokens=4))
    refused(c.INVALID, "sampling needs temperature", lambda: ours.decode([[1]], max_tokens=4, temperature=-1.0))
    refused(c.INVALID, "max_rows must be 1 .. 4096, got 0", lambda: ours.call("plan", 0))
    refused(c.INVALID, "49 tokens do not fit the context of 48", lambda: ours.forward([wide]))
    refused(c.INVALID, "token 300 is not below", lambda: ours.text(300))
    refused(c.INVALID, "this model is a decoder", lambda: ours.call("save", b"x.safetensors"))
    assert len(ours.decode([[1]], max_tokens=4, ignore_end=1)[0][0]) == 4  # it goes on after all that
    for change, message in (
        (lambda p: p["weights"][0].update(rows=400), "has .* bytes of Q8_0, the plan wants"),
        (lambda p: p["weights"][0].update(at=17), "at 17 of"),
        (lambda p: p["weights"][0].update(tensor="token_embd"), "has no tensor 'token_embd'"),
        (lambda p: p["weights"][0].update(type="Q4_0"), "of Q8_0, the plan wants"),
        (lambda p: p["steps"][1].update(inputs=[9]), "reads a later node"),
        (lambda p: p["steps"][1].update(params=[999]), "unknown weight"),
        (lambda p: p.update(context=4000), "float32 table of the whole context"),
        (lambda p: p.update(pieces=["?"]), "is not base64"),
        (lambda p: p.update(extra=1), "unknown field 'extra'"),
        (lambda p: p["steps"][-1].update(numbers=[1e300]), "a number of"),
    ):
        described = describe_decoder(model, file, CONTEXT)
        change(described)
        refused(c.INVALID, message, lambda d=described: library.load(json.dumps(d).encode(), file))
    with pytest.raises(BackendError, match="are not in .*export_gguf|write the model to one file"):
        describe_decoder(decoder("llama", vocab=160_000), file, CONTEXT)


@pytest.mark.parametrize("count", [150, pytest.param(10_000, marks=pytest.mark.slow)])
def test_no_mutated_plan_makes_it_fall_over(library: c.Library, tmp_path: Path, count: int) -> None:
    """Numbers, names and brackets of a good plan are changed; each is refused, or generates."""
    model, file = saved(tmp_path, "Q4_0")
    described = describe_decoder(model, file, CONTEXT)
    described["pieces"] = described["pieces"][:3]
    text = json.dumps(described).encode()
    table = text.index(b'"data"') + 9, text.index(b'"', text.index(b'"data"') + 9)
    stream, refusals = derive(4, "plans"), 0
    for number in range(count):
        mutant = bytearray(text)
        words = stream.at(number).words(8)
        for k in range(1 + int(words[0]) % 3):
            at = int(words[1 + k]) % (len(text) - table[1] + table[0])
            at += (table[1] - table[0]) * (at >= table[0])
            mutant[at : at + int(words[4 + k]) % 3] = b'0123456789[]{}",:-ex'[int(words[6]) % 20 :][:1]
        try:
            library.load(bytes(mutant), file).decode([[1, 2, 3]], max_tokens=2)
        except c.CError as error:
            refusals += 1
            assert error.status in (c.INVALID, c.UNSUPPORTED, c.NOT_FINITE) and str(error)
    assert refusals > 0.5 * count


def test_the_example_generates_pythons_tokens_and_leaks_nothing(tmp_path: Path) -> None:
    model, file = saved(tmp_path, "Q4_0")
    save_decoder(model, file, tmp_path / "plan.json", CONTEXT)
    sanitized = "asan" in str(c.path())
    program = c.compiled("generate", tmp_path, *([] if sanitized else ["-fsanitize=address,undefined", "-g"]))
    environment = {**os.environ, "ASAN_OPTIONS": "detect_leaks=1"}
    given = [program, tmp_path / "plan.json", file, "12", *map(str, tokens(5, 300))]
    done = subprocess.run(given, capture_output=True, env=environment)
    assert done.returncode == 0 and not done.stderr, done.stderr.decode()
    wanted = Generator(model, context=CONTEXT).generate([tokens(5, 300)], Sampling(12))[0]
    line, _, text = done.stdout.partition(b"\n")
    assert tuple(map(int, line.split())) == wanted.tokens
    assert text == b"".join(model.tokenizer.pieces[t] for t in wanted.tokens) + b"\n"  # type: ignore[union-attr]
    bad = subprocess.run([*given[:2], tmp_path / "none.gguf", *given[3:]], capture_output=True, env=environment)
    assert bad.returncode == 1 and b"cannot open" in bad.stderr
