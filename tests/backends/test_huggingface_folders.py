"""Folders of models: what is refused, and how little a hostile one costs; networks written here, as folders."""

from __future__ import annotations

import json
import os
import pickle
import random
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alexandra.backends import huggingface
from alexandra.backends.huggingface_config import Config
from alexandra.backends.huggingface_families import FAMILIES
from alexandra.backends.huggingface_tensors import HASHES, WEIGHTS, encoded, tensor_files, tensors_of
from alexandra.backends.reference import ReferenceModel
from alexandra.errors import AlexandraError, BackendError, NotFoundError, StorageError, WeightsError
from alexandra.ir.graph import Graph
from alexandra.ir.weights import WeightSet, initialise
from alexandra.lang.nureon import compile_network
from alexandra.objectives.spec import CrossEntropy

NETWORKS = Path(__file__).parents[2] / "examples/networks"
LLAMA = {
    "model_type": "llama",
    "vocab_size": 13,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "intermediate_size": 12,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
    "rope_parameters": {"rope_type": "llama3", "rope_theta": 1e4, "factor": 2.0, "original_max_position_embeddings": 8}
    | {"low_freq_factor": 1.0, "high_freq_factor": 4.0},
}
MAX_BYTES = 8_000_000  # that reading a hostile folder may allocate


def folder(tmp_path: Path, name: str = "model") -> Path:
    graph = compile_network(FAMILIES["llama"].text(Config(LLAMA, "x"), ()))
    made = huggingface.Pretrained("", graph, initialise(graph, 1), LLAMA)
    return huggingface.save(made, tmp_path / name)


def header_of(data: bytes) -> tuple[dict[str, Any], bytes]:
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def rewritten(path: Path, change: Callable[[dict[str, Any]], object], body: bytes | None = None) -> None:
    header, data = header_of((path / WEIGHTS).read_bytes())
    change(header)
    text = json.dumps(header).encode()
    (path / WEIGHTS).write_bytes(len(text).to_bytes(8, "little") + text + (data if body is None else body))


def with_config(path: Path, **values: object) -> None:
    (path / "config.json").write_text(json.dumps({**LLAMA, **values}))


def without_hash(header: dict[str, Any], name: str) -> None:
    hashes = json.loads(header["__metadata__"][HASHES])
    del hashes[name]
    header["__metadata__"][HASHES] = json.dumps(hashes)


class Payload:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("executed",)


def hostile(path: Path) -> Iterator[tuple[str, Callable[[], object]]]:
    """Ways to break the folder `path`; each is applied to a fresh copy."""
    data = (path / WEIGHTS).read_bytes()
    header, _ = header_of(data)
    names = [name for name in header if name != "__metadata__"]
    for name in names:
        yield f"no {name}", lambda name=name: rewritten(path, lambda h: h.pop(name))
        wrong = {"shape": [*header[name]["shape"], 1]}
        yield f"shape of {name}", lambda name=name, wrong=wrong: rewritten(path, lambda h: h[name].update(wrong))
        yield f"offset of {name}", lambda name=name: rewritten(path, lambda h: h[name].update(data_offsets=[0, 4]))
    for key in ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"):
        for value in (0, -1, 7, 10**9, 10**30, "8", 1.5, None, [], {}, True):
            if value is not None or key != "num_attention_heads":
                yield f"{key}={value!r}", lambda key=key, value=value: with_config(path, **{key: value})
    for key in ("rms_norm_eps", "rope_parameters", "hidden_act", "attention_bias", "head_dim"):
        for value in ("nan", [1], {"rope_type": "magic"}, 10**400, -3):
            yield f"{key}={str(value)[:9]}", lambda key=key, value=value: with_config(path, **{key: value})
    for kind in ("magic", "", None, 3, "gpt_neox", "../llama"):
        yield f"type {kind!r}", lambda kind=kind: with_config(path, model_type=kind)
    yield "own code", lambda: with_config(path, auto_map={"AutoModel": "evil.Model"})
    for size in (0, 1, 7, 8, 9, 100, len(data) - 1):
        yield f"{size} bytes", lambda size=size: (path / WEIGHTS).write_bytes(data[:size])
    for length in (2**63, 2**40, 10**8, len(data)):
        yield f"header {length}", lambda n=length: (path / WEIGHTS).write_bytes(n.to_bytes(8, "little") + data[8:])
    negative = b'{"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 0]}}'
    for text in (b"[]", b"{", b"[" * 100_000, b'{"a": 1}', negative):
        packed = len(text).to_bytes(8, "little") + text
        yield f"header {text[:9]!r}", lambda packed=packed: (path / WEIGHTS).write_bytes(packed)
    huge = {"dtype": "F32", "shape": [2**40, 2**20], "data_offsets": [0, 2**62]}
    yield "huge tensor", lambda: rewritten(path, lambda h: h.update({names[0]: huge}))
    yield "unknown tensor", lambda: rewritten(path, lambda h: h.update(extra=h[names[0]]))
    whole = {"dtype": "I32", "shape": header[names[0]]["shape"], "data_offsets": header[names[0]]["data_offsets"]}
    yield "whole numbers", lambda: rewritten(path, lambda h: h.update({names[0]: whole}))
    for index in ({}, {"weight_map": 3}, {"weight_map": dict.fromkeys(names, "../x.safetensors")}, []):
        yield f"index {str(index)[:20]}", lambda i=index: (path / f"{WEIGHTS}.index.json").write_text(json.dumps(i))
    for place in ("/etc/passwd", "a/b.safetensors", "..", "", "missing.safetensors"):
        table = {"weight_map": dict.fromkeys(names, place)}
        yield f"shard {place!r}", lambda t=table: (path / f"{WEIGHTS}.index.json").write_text(json.dumps(t))

    def link(name: str) -> None:
        (path / name).unlink()
        (path / name).symlink_to("/etc/passwd")

    def pickled() -> None:
        (path / WEIGHTS).unlink()
        (path / "pytorch_model.bin").write_bytes(pickle.dumps(Payload()))

    yield "linked weights", lambda: link(WEIGHTS)
    yield "linked config", lambda: link("config.json")
    yield "a pickle", pickled
    yield "a config that is a list", lambda: (path / "config.json").write_text("[]")
    yield "a config that is deep", lambda: (path / "config.json").write_text("[" * 200_000)
    yield "bytes behind the last tensor", lambda: (path / WEIGHTS).write_bytes(data + bytes(8))
    yield "a file that nothing reads", lambda: (path / "README.md").write_bytes(b"\xff")
    yield "another format", lambda: rewritten(path, lambda h: h["__metadata__"].update(format="np"))
    yield "a note in the metadata", lambda: rewritten(path, lambda h: h["__metadata__"].update(note="\x00"))
    yield "no hash of one", lambda: rewritten(path, lambda h: without_hash(h, names[0]))
    for told in ("{", "[]", "{}", 3, json.dumps(dict.fromkeys(names, 1)), json.dumps(dict.fromkeys(names, "0" * 64))):
        yield f"hashes {told!r:.9}", lambda t=told: rewritten(path, lambda h: h["__metadata__"].update({HASHES: t}))
    noise = random.Random(0)
    end = 8 + int.from_bytes(data[:8], "little")
    for number in range(80):  # half of them in the header, half in the values
        at, value = noise.randrange(end) if number % 2 else noise.randrange(end, len(data)), noise.randrange(256)
        changed = bytes([*data[:at], value if data[at] != value else value ^ 1, *data[at + 1 :]])
        yield f"byte {number}", lambda changed=changed: (path / WEIGHTS).write_bytes(changed)


def test_hostile_folders_are_refused_in_words_and_cost_little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = folder(tmp_path)
    fresh = {file.name: file.read_bytes() for file in path.iterdir()}
    wanted = huggingface.load(path)
    refused, harmless = 0, set()
    for what, damage in list(hostile(path)):
        for file in path.iterdir():
            file.unlink()
        for name, content in fresh.items():
            (path / name).write_bytes(content)
        damage()
        tracemalloc.start()
        try:
            read = huggingface.load(path)
        except AlexandraError as error:
            assert len(str(error)) < 2000 and error.message, what
            refused += 1
        else:  # what was read is what was saved, to the byte
            assert (read.text, read.graph, read.config) == (wanted.text, wanted.graph, wanted.config), what
            assert {n: a.tobytes() for n, a in read.weights.items()} == {
                n: a.tobytes() for n, a in wanted.weights.items()
            }, what
            harmless.add(what)
        assert tracemalloc.get_traced_memory()[1] < MAX_BYTES, what
        tracemalloc.stop()
    assert refused >= 240 and harmless == {"another format", "a file that nothing reads", "a note in the metadata"}
    assert not (tmp_path / "executed").exists()


def test_the_reasons_name_what_was_found(tmp_path: Path) -> None:
    path = folder(tmp_path)
    with_config(path, hidden_size=16)
    with pytest.raises(WeightsError, match=r"'model.embed_tokens.weight' has shape \(13, 8\), .* needs \(13, 16\)"):
        huggingface.load(path)
    with_config(path, model_type="lama")
    with pytest.raises(BackendError, match="no family 'lama' of models\n.*Did you mean 'llama'"):
        huggingface.load(path)
    (path / WEIGHTS).rename(path / "pytorch_model.bin")
    with_config(path)
    with pytest.raises(WeightsError, match="'pytorch_model.bin', which is never read: it may run code"):
        huggingface.load(path)
    with pytest.raises(NotFoundError, match="no folder"):
        huggingface.load(tmp_path / "nothing")
    with pytest.raises(StorageError, match="not empty"):
        huggingface.save(huggingface.load(folder(tmp_path, "second")), tmp_path / "second")


def test_a_changed_value_is_refused_and_a_file_without_hashes_is_taken_as_it_is(tmp_path: Path) -> None:
    path = folder(tmp_path)
    data = bytearray((path / WEIGHTS).read_bytes())
    data[-1] ^= 1
    (path / WEIGHTS).write_bytes(data)
    with pytest.raises(WeightsError, match="bytes from .* on are not those that were saved\n.*damaged"):
        huggingface.load(path)
    rewritten(path, lambda header: header["__metadata__"].pop(HASHES))
    assert huggingface.load(path).weights.keys() == huggingface.load(folder(tmp_path, "second")).weights.keys()


def test_bytes_that_belong_to_no_tensor_are_refused(tmp_path: Path) -> None:
    stored = encoded(np.ones(2, np.float32), "F32")
    data = tensor_files({"x": ("F32", (2,), stored), "y": ("F32", (2,), stored)})[WEIGHTS]
    (tmp_path / WEIGHTS).write_bytes(data)
    _, body = header_of(data)

    def shifted(header: dict[str, Any]) -> None:
        header["y"]["data_offsets"] = [12, 20]

    rewritten(tmp_path, shifted, body[:8] + bytes(4) + body[8:])
    with pytest.raises(WeightsError, match="4 bytes before tensor 'y' belong to none"):
        tensors_of(tmp_path)
    (tmp_path / WEIGHTS).write_bytes(data + bytes(3))
    with pytest.raises(WeightsError, match="the last 3 bytes belong to no tensor"):
        tensors_of(tmp_path)


def test_bfloat16_rounds_to_nearest_even_and_goes_back_exactly(tmp_path: Path) -> None:
    values = np.array([1.0, 1.00390625, 1.01171875, -3.4e38, 1e-40, np.inf, np.nan, 0.0], np.float32)
    files = tensor_files({"x": ("BF16", (8,), encoded(values, "BF16"))})
    (tmp_path / WEIGHTS).write_bytes(files[WEIGHTS])
    read = tensors_of(tmp_path)["x"].array()
    np.testing.assert_array_equal(read[:3], [1.0, 1.0, 1.015625])
    assert np.isinf(read[5]) and np.isnan(read[6]) and encoded(read, "BF16") == encoded(values, "BF16")


def test_a_published_folder_gives_the_tokens_that_transformers_gave(real_data: Path) -> None:
    pytest.importorskip("torch")
    from alexandra.backends.pytorch import TorchModel
    from alexandra.backends.pytorch_generate import generate

    place = real_data / "tiny_random_gpt2"
    read = huggingface.load(place)
    assert {"tokenizer.json", "merges.txt", "vocab.json"} <= set(read.files)
    model = TorchModel(read.graph, read.weights)
    for case in json.loads((place / "expected_2_cases.json").read_text())["cases"]:
        prompt = np.array([case["ids"]], np.int32)
        for cached in (True, False):
            made = generate(model, {"tokens": prompt}, 16, cache=cached)
            assert made[0, prompt.shape[1] :].tolist() == case["greedy16"]
        loss = model.loss({"tokens": prompt[:, :-1]}, prompt[:, 1:], CrossEntropy())
        assert loss == pytest.approx(case["mean_nll"], abs=1e-4)


SMALL = {"vocab": 13, "width": 8, "layers": 2, "heads": 2, "kv_heads": 1, "hidden": 12}
OWN: dict[str, dict[str, int]] = {
    "llama3": {},
    "mistral": {"window": 3},
    "mixtral": {"experts": 4},
    "qwen3": {"head": 6},
    "gpt2": {},
    "bert": {},
    "t5": {},
}


def own(name: str) -> tuple[Graph, WeightSet]:
    """A small network of examples/networks with random weights, norms and biases too."""
    small = {**SMALL, **OWN[name]}
    known = {key: value for key, value in small.items() if f"LET {key} " in (NETWORKS / f"{name}.nl").read_text()}
    graph = compile_network(NETWORKS / f"{name}.nl", constants=known)
    noise = np.random.default_rng(0)
    drawn = {n: (a + noise.normal(0, 0.1, a.shape)).astype(np.float32) for n, a in initialise(graph, 1).items()}
    return graph, WeightSet(drawn)


@pytest.mark.parametrize("name", OWN)
def test_a_network_written_here_becomes_a_folder_and_comes_back(name: str, tmp_path: Path) -> None:
    graph, weights = own(name)
    read = huggingface.load(huggingface.save(huggingface.describe(graph, weights), tmp_path / name))
    before, after = (sorted(array.tobytes() for array in given.values()) for given in (weights, read.weights))
    assert before == after
    given = {node.name: np.array([[1, 0, 1], [0, 1, 1]], np.int32) for node in graph.inputs}
    ours, back = (ReferenceModel(*pair).forward(given) for pair in ((graph, weights), (read.graph, read.weights)))
    assert ours.keys() == back.keys()
    for output, array in ours.items():
        np.testing.assert_allclose(back[output], array, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", OWN)
def test_transformers_loads_a_network_written_here(name: str, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    graph, weights = own(name)
    huggingface.save(huggingface.describe(graph, weights), tmp_path / name)
    kinds = {"bert": "AutoModel", "t5": "AutoModelForSeq2SeqLM"}
    loader = getattr(transformers, kinds.get(name, "AutoModelForCausalLM"))
    theirs, told = loader.from_pretrained(tmp_path / name, output_loading_info=True)
    assert not told["missing_keys"] and not told["unexpected_keys"] and not told["mismatched_keys"]
    tokens = np.array([[1, 2, 5, 3], [4, 1, 1, 9]], np.int32)
    model, ids = ReferenceModel(graph, weights), torch.tensor(tokens, dtype=torch.long)
    if name == "bert":
        ours = model.forward({"tokens": tokens, "types": tokens % 2, "mask": np.ones_like(tokens)})["hidden"]
        out = theirs(ids, token_type_ids=ids % 2).last_hidden_state
    elif name == "t5":
        ours = model.forward({"source": tokens, "target": tokens})["logits"]
        out = theirs(input_ids=ids, decoder_input_ids=ids).logits
    else:
        ours, out = model.forward({"tokens": tokens})["logits"], theirs.eval()(ids).logits
    np.testing.assert_allclose(ours, out.detach().numpy(), atol=1e-4)


def test_a_network_of_other_names_is_found_by_its_shape(tmp_path: Path) -> None:
    graph, weights = own("t5")
    swapped = (NETWORKS / "t5.nl").read_text().replace("es_[", "first_[").replace("shared=es_1", "shared=first_1")
    swapped = swapped.replace("name=es_1", "name=first_1")
    known = {key: value for key, value in SMALL.items() if f"LET {key} " in swapped}
    other = compile_network(swapped, constants=known)
    assert {node.name for node in other.nodes} != {node.name for node in graph.nodes}
    assert huggingface.describe(other, initialise(other, 1)).graph == huggingface.describe(graph, weights).graph
    unshared = swapped.replace(" shared=first_1", "")
    other = compile_network(unshared, constants=known)
    with pytest.raises(BackendError, match="differs from t5"):
        huggingface.describe(other, initialise(other, 1))


def test_what_no_family_expresses_is_named() -> None:
    graph = compile_network(NETWORKS / "deepseek_moe.nl", constants={"layers": 2, "width": 16, "heads": 2})
    with pytest.raises(BackendError, match="'deepseek_moe' (differs from|has not the layers|cannot be described)"):
        huggingface.describe(graph, initialise(graph))
    text = (NETWORKS / "llama3.nl").read_text().replace("kv_heads=kv_heads", "kv_heads=kv_heads softcap=30")
    small = {"vocab": 8, "width": 8, "layers": 1, "heads": 2, "kv_heads": 1, "hidden": 8}
    graph = compile_network(text, constants=small)
    with pytest.raises(BackendError, match=r"differs from llama in layer 'block_1.attention.sdpa'"):
        huggingface.describe(graph, initialise(graph))
