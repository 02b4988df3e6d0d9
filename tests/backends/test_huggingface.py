"""Models exchanged with transformers: equal logits, gradients and tokens, and every byte of a tensor kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from alexandra.backends import huggingface  # noqa: E402
from alexandra.backends.huggingface_adapter import Adapter, load_adapter, merged, save_adapter  # noqa: E402
from alexandra.backends.huggingface_config import Config  # noqa: E402
from alexandra.backends.huggingface_tensors import tensors_of  # noqa: E402
from alexandra.backends.pytorch import TorchModel  # noqa: E402
from alexandra.backends.pytorch_generate import generate  # noqa: E402
from alexandra.objectives.spec import CrossEntropy  # noqa: E402

pytestmark = pytest.mark.slow

SMALL = {
    "vocab_size": 97,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
}
STRETCHED = {"factor": 4.0, "original_max_position_embeddings": 16, "rope_theta": 10000.0}
LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0}
BERT = {k: v for k, v in SMALL.items() if k != "num_key_value_heads"}
T5 = {"vocab_size": 97, "d_model": 32, "d_kv": 6, "d_ff": 48, "num_layers": 2, "num_heads": 4}

# name -> (class of the model, settings)
DECODERS: dict[str, tuple[str, dict[str, object]]] = {
    "llama": ("Llama", {**SMALL}),
    "llama, llama3": ("Llama", {**SMALL, "rope_parameters": {"rope_type": "llama3", **STRETCHED, **LLAMA3}}),
    "llama, yarn": ("Llama", {**SMALL, "rope_parameters": {"rope_type": "yarn", **STRETCHED}}),
    "llama, linear, tied, biased": (
        "Llama",
        {**SMALL, "rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 500.0}}
        | {"tie_word_embeddings": True, "attention_bias": True, "mlp_bias": True, "head_dim": 12},
    ),
    "qwen2": ("Qwen2", {**SMALL}),
    "qwen3": ("Qwen3", {**SMALL, "head_dim": 16, "tie_word_embeddings": True}),
    "mistral": ("Mistral", {**SMALL, "sliding_window": 5}),
    "mixtral": ("Mixtral", {**SMALL, "num_local_experts": 4}),
    "gpt2": ("GPT2", {"vocab_size": 97, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}),
}
CLASSES = {"GPT2": "GPT2LMHeadModel"}


def peer(name: str, kind: str, settings: dict[str, object], folder: Path, model: str = "") -> object:
    """A tiny random model of transformers, saved in `folder`; norms and biases are random too."""
    torch.manual_seed(len(name))
    config = getattr(transformers, f"{kind}Config")(**settings)
    made = getattr(transformers, model or CLASSES.get(kind, f"{kind}ForCausalLM"))(config).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    made.save_pretrained(folder)
    return made


def same_tensors(first: Path, second: Path) -> None:
    ours, theirs = tensors_of(first), tensors_of(second)
    assert set(ours) == set(theirs)
    for name, tensor in theirs.items():
        assert (ours[name].dtype, ours[name].shape) == (tensor.dtype, tensor.shape)
        assert ours[name].bytes() == tensor.bytes(), name


def same_gradients(theirs: object, read: huggingface.Pretrained, grads: dict[str, np.ndarray]) -> int:
    """How many gradients of parameters were compared."""
    config, peers = Config(read.config, "gradients"), dict(theirs.named_parameters())
    checked = 0
    for place in huggingface.family_of(config).places(config, read.dtypes):
        for key, gradient in zip(place.theirs, huggingface.theirs_of(place, grads), strict=True):
            key = key if key in peers else key.removeprefix("bert.")
            if key in peers:
                found = peers[key].grad
                found = np.zeros(gradient.shape) if found is None else found.numpy()
                np.testing.assert_allclose(gradient, found, atol=1e-4, err_msg=key)
                checked += 1
    return checked


@pytest.mark.parametrize("name", DECODERS)
def test_a_decoder_has_the_logits_gradients_and_tokens_of_transformers(name: str, tmp_path: Path) -> None:
    theirs = peer(name, *DECODERS[name], tmp_path / "in")
    read = huggingface.load(tmp_path / "in")
    model = TorchModel(read.graph, read.weights)
    tokens = torch.randint(0, 97, (2, 13), generator=torch.Generator().manual_seed(1))
    given = {"tokens": tokens.numpy().astype(np.int32)}
    wanted = theirs(tokens).logits.detach().numpy()
    np.testing.assert_allclose(model.forward(given)["logits"], wanted, atol=1e-4)

    loss, grads = model.loss_and_grads({"tokens": given["tokens"][:, :-1]}, tokens[:, 1:].numpy(), CrossEntropy())
    out = theirs(tokens, labels=tokens)
    out.loss.backward()
    assert loss == pytest.approx(out.loss.item(), rel=1e-5)
    assert same_gradients(theirs, read, grads) >= 15
    if name == "mixtral":  # transformers holds its experts fused
        fused = dict(theirs.named_parameters())["model.layers.0.mlp.experts.gate_up_proj"].grad.numpy()
        ours = np.concatenate((grads["block_1.moe.experts.gate"], grads["block_1.moe.experts.up"]), axis=1)
        np.testing.assert_allclose(ours, fused, atol=1e-4)

    settings = {"max_new_tokens": 12, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    expected = theirs.generate(tokens[:, :5], **settings).numpy()
    prompt = {"tokens": given["tokens"][:, :5]}
    for cached in (True, False):
        np.testing.assert_array_equal(generate(model, prompt, 12, cache=cached), expected)


@pytest.mark.parametrize("name", DECODERS)
def test_export_keeps_every_byte_and_transformers_loads_it(name: str, tmp_path: Path) -> None:
    theirs = peer(name, *DECODERS[name], tmp_path / "in")
    (tmp_path / "in" / "tokenizer.json").write_bytes(b'{"carried": "along"}')
    read = huggingface.load(tmp_path / "in")
    huggingface.save(read, tmp_path / "out", shard_bytes=20_000)
    assert len(list((tmp_path / "out").glob("*.safetensors"))) > 1
    same_tensors(tmp_path / "out", tmp_path / "in")
    assert (tmp_path / "out" / "tokenizer.json").read_bytes() == b'{"carried": "along"}'
    again = huggingface.load(tmp_path / "out")
    assert again.weights == read.weights and again.graph == read.graph
    tokens = torch.arange(8)[None]
    loaded = type(theirs).from_pretrained(tmp_path / "out").eval()
    torch.testing.assert_close(loaded(tokens).logits, theirs(tokens).logits)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_goes_in_and_out_exactly(dtype: str, tmp_path: Path) -> None:
    theirs = peer("half", *DECODERS["qwen3"], tmp_path / "first")
    theirs.to(getattr(torch, dtype)).save_pretrained(tmp_path / "in")
    read = huggingface.load(tmp_path / "in")
    huggingface.save(read, tmp_path / "out")
    same_tensors(tmp_path / "out", tmp_path / "in")
    wanted = dict(theirs.named_parameters())["model.layers.0.mlp.up_proj.weight"].float().detach().numpy()
    np.testing.assert_array_equal(read.weights["block_1.ffn.up.weight"], wanted)


@pytest.mark.parametrize("head", ["BertModel", "BertForMaskedLM"])
def test_bert_has_the_answers_of_transformers(head: str, tmp_path: Path) -> None:
    theirs = peer("bert", "Bert", BERT, tmp_path / "in", head)
    read = huggingface.load(tmp_path / "in")
    model = TorchModel(read.graph, read.weights)
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(0, 97, (2, 9), generator=generator)
    types, mask = torch.randint(0, 2, (2, 9)), torch.ones(2, 9, dtype=torch.long)
    mask[1, 6:] = 0
    given = {"tokens": tokens, "types": types, "mask": mask}
    actual = model.forward({name: array.numpy().astype(np.int32) for name, array in given.items()})
    out = theirs(tokens, attention_mask=mask, token_type_ids=types)
    seen = mask.bool().numpy()
    wanted = {"logits": out.logits} if head == "BertForMaskedLM" else {"hidden": out.last_hidden_state}
    for name, array in wanted.items():
        np.testing.assert_allclose(actual[name][seen], array.detach().numpy()[seen], atol=1e-4)
    if head == "BertModel":
        np.testing.assert_allclose(actual["pooled"], out.pooler_output.detach().numpy(), atol=1e-4)
    parts = {"hidden": out.last_hidden_state, "pooled": out.pooler_output} if head == "BertModel" else wanted
    seeds = {name: torch.randn(part.shape, generator=generator) for name, part in parts.items()}
    for seed in seeds.values():
        seed *= mask[:, :, None] if seed.ndim == 3 else 1
    torch.stack([(parts[name] * seed).sum() for name, seed in seeds.items()]).sum().backward()
    given = {name: array.numpy().astype(np.int32) for name, array in given.items()}
    _, grads = model.backward(given, {name: seed.numpy() for name, seed in seeds.items()})
    assert same_gradients(theirs, read, grads) >= 30
    huggingface.save(read, tmp_path / "out")
    same_tensors(tmp_path / "out", tmp_path / "in")


@pytest.mark.parametrize("extra", [{}, {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}], ids=str)
def test_t5_has_the_logits_and_tokens_of_transformers(extra: dict[str, object], tmp_path: Path) -> None:
    theirs = peer("t5", "T5", {**T5, **extra}, tmp_path / "in", "T5ForConditionalGeneration")
    read = huggingface.load(tmp_path / "in")
    model = TorchModel(read.graph, read.weights)
    generator = torch.Generator().manual_seed(1)
    source, target = (torch.randint(2, 97, (2, n), generator=generator) for n in (40, 30))
    given = {"source": source.numpy().astype(np.int32), "target": target.numpy().astype(np.int32)}
    wanted = theirs(input_ids=source, decoder_input_ids=target).logits.detach().numpy()
    np.testing.assert_allclose(model.forward(given)["logits"], wanted, atol=1e-4)
    labels = torch.randint(0, 97, (2, 30), generator=generator)
    out = theirs(input_ids=source, decoder_input_ids=target, labels=labels)
    out.loss.backward()
    loss, grads = model.loss_and_grads(given, labels.numpy(), CrossEntropy())
    assert loss == pytest.approx(out.loss.item(), rel=1e-5)
    assert same_gradients(theirs, read, grads) >= 40
    settings = {"max_new_tokens": 9, "do_sample": False, "eos_token_id": None, "decoder_start_token_id": 0}
    expected = theirs.generate(source, **settings).numpy()
    prompt = {"source": given["source"], "target": np.zeros((2, 1), np.int32)}
    for cached in (True, False):
        np.testing.assert_array_equal(generate(model, prompt, 9, cache=cached), expected)
    huggingface.save(read, tmp_path / "out")
    same_tensors(tmp_path / "out", tmp_path / "in")


@pytest.mark.parametrize(
    ("name", "targets"), [("llama", ["q_proj", "v_proj", "down_proj"]), ("gpt2", ["c_attn", "c_fc"])]
)
def test_adapters_of_peft_go_in_and_out(name: str, targets: list[str], tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    theirs = peer(name, *DECODERS[name], tmp_path / "in")
    settings = peft.LoraConfig(r=3, lora_alpha=5, target_modules=targets, fan_in_fan_out=name == "gpt2")
    adapted = peft.get_peft_model(theirs, settings).eval()
    with torch.no_grad():
        for key, parameter in adapted.named_parameters():
            if "lora_" in key:
                parameter.copy_(0.2 * torch.randn_like(parameter))
    adapted.save_pretrained(tmp_path / "adapter")
    tokens = torch.arange(10)[None]
    wanted = adapted(tokens).logits.detach().numpy()
    read = huggingface.load(tmp_path / "in")
    adapter = load_adapter(tmp_path / "adapter", read)
    model = TorchModel(read.graph, merged(read, adapter))
    given = {"tokens": tokens.numpy().astype(np.int32)}
    np.testing.assert_allclose(model.forward(given)["logits"], wanted, atol=1e-4)
    assert np.abs(TorchModel(read.graph, read.weights).forward(given)["logits"] - wanted).max() > 1e-2
    save_adapter(Adapter(adapter.pairs, adapter.scale, {}), read, tmp_path / "again")
    base = type(theirs).from_pretrained(tmp_path / "in")
    loaded = peft.PeftModel.from_pretrained(base, tmp_path / "again").eval()
    np.testing.assert_allclose(loaded(tokens).logits.detach().numpy(), wanted, atol=1e-5)
