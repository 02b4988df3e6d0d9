"""Generation beside transformers and llama.cpp: the same logits and the same greedy tokens."""

import json
from pathlib import Path

import numpy as np
import pytest
from tests.backends.decoders import decoder, tokens

from alexandra.backends.decode import Generator, Sampling, load_decoder
from alexandra.backends.gguf_export import export_gguf

COMMON = {
    "vocab_size": 96, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 128, "pad_token_id": 0,
}  # fmt: skip
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 5000.0, "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}  # fmt: skip
GPT2 = {"vocab_size": 96, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 128}
MODELS = {
    "Llama": COMMON,
    "Llama tied llama3": {**COMMON, "tie_word_embeddings": True, "rope_parameters": LLAMA3},
    "Mistral": {**COMMON, "sliding_window": 7},
    "Qwen2": COMMON,
    "Qwen3": {**COMMON, "head_dim": 32},
    "GPT2": GPT2,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_a_folder_of_transformers_runs_with_its_logits_and_tokens(name: str, tmp_path: Path) -> None:
    transformers, torch = pytest.importorskip("transformers"), pytest.importorskip("torch")
    kind = name.split()[0]
    torch.manual_seed(0)
    made = getattr(transformers, f"{kind}Config")(**MODELS[name])
    made._attn_implementation = "eager"
    model = getattr(transformers, "GPT2LMHeadModel" if kind == "GPT2" else f"{kind}ForCausalLM")(made).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0, 0.3 if parameter.ndim == 1 else 0.15)
    model.save_pretrained(tmp_path)
    text = tokens(40)
    with torch.no_grad():
        wanted = model(torch.tensor([text])).logits[0].numpy()
    generator = Generator(load_decoder(tmp_path))
    found = generator.logits(text)
    assert np.abs(found - wanted).max() <= 1e-4 * max(1.0, np.abs(wanted).max())
    greedy = model.generate(torch.tensor([text[:9]]), max_new_tokens=20, do_sample=False, eos_token_id=None)
    mine = generator.generate([text[:9]], Sampling(20, ignore_end=True))[0].tokens
    assert list(mine) == greedy[0, 9:].tolist()


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3", "gpt2"])
def test_llama_cpp_runs_our_files_with_our_tokens(architecture: str, tmp_path: Path) -> None:
    llama_cpp = pytest.importorskip("llama_cpp")
    path = export_gguf(decoder(architecture, vocab=300), tmp_path / "m.gguf")
    peer = llama_cpp.Llama(str(path), n_ctx=128, n_threads=1, n_threads_batch=1, logits_all=True, verbose=False)
    text = tokens(12)
    generator = Generator(load_decoder(path))
    mine = generator.generate([text], Sampling(30, ignore_end=True))[0].tokens
    peer.eval(text)
    theirs = []
    for _ in range(30):
        theirs.append(int(np.argmax(peer.scores[peer.n_tokens - 1])))
        peer.eval(theirs[-1:])
    assert list(mine) == theirs
    # llama.cpp keeps keys and values, and looks GELU up, in half precision.
    error = np.abs(generator.logits(text + theirs) - peer.scores[: len(text) + 30])
    assert error.max() < 0.05


@pytest.mark.parametrize("kind", ["F32", "F16", "Q8_0"])
def test_files_that_others_made_continue_as_transformers_did(real_data: Path, kind: str) -> None:
    cases = json.loads((real_data / "tiny_random_gpt2" / "expected_2_cases.json").read_text())["cases"]
    generator = Generator(real_data / "gguf" / f"tiny-random-gpt2-{kind}.gguf", context=64)
    for case in cases:
        assert generator.encode(case["prompt"]) == case["ids"]
        result = generator.generate([case["prompt"]], Sampling(16, ignore_end=True))[0]
        assert list(result.tokens) == case["greedy16"]


def test_a_folder_of_others_continues_as_transformers_did(real_data: Path) -> None:
    cases = json.loads((real_data / "tiny_random_gpt2" / "expected_2_cases.json").read_text())["cases"]
    generator = Generator(real_data / "tiny_random_gpt2", context=64)
    for case in cases:
        logits = generator.logits(case["ids"]).astype(np.float64)
        shifted = logits - logits.max(axis=1, keepdims=True)
        logs = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        nll = -logs[np.arange(len(case["ids"]) - 1), case["ids"][1:]].mean()
        assert nll == pytest.approx(case["mean_nll"], abs=1e-4)
