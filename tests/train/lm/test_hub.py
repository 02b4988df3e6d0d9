"""transformers' causal models as policies: trained, sampled, adapted by LoRA, kept and resumed like networks."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
peft = pytest.importorskip("peft")

from alexandra.config import validate  # noqa: E402
from alexandra.errors import BackendError, DataError  # noqa: E402
from alexandra.objectives import tokens  # noqa: E402
from alexandra.objectives.spec import AdamW  # noqa: E402
from alexandra.rng import derive  # noqa: E402
from alexandra.train.lm.batch import Row, TokenBatch, packed, padded  # noqa: E402
from alexandra.train.lm.build import Given, build  # noqa: E402
from alexandra.train.lm.fed import Optimization  # noqa: E402
from alexandra.train.lm.hub import HubPolicy, HubSampler, read_hub  # noqa: E402
from alexandra.train.lm.recipe import Recipe  # noqa: E402
from alexandra.train.lm.run import train  # noqa: E402
from alexandra.train.lm.sampling import Sampling, complete  # noqa: E402
from alexandra.train.stages import StagePlan, run_stage  # noqa: E402

VOCAB = 40
FAMILIES = ["llama", *(pytest.param(name, marks=pytest.mark.slow) for name in ("gpt2", "qwen3"))]


def folder(place: Path, family: str = "llama") -> Path:
    """A tiny random model with a tokenizer of single letters, as transformers writes it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    sizes: dict[str, Any] = {"vocab_size": VOCAB}
    if family == "gpt2":
        sizes |= {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 64}
        sizes |= {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    else:
        sizes |= {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
        sizes |= {"num_key_value_heads": 1, "head_dim": 16, "max_position_embeddings": 64}
    torch.manual_seed(3)
    config = transformers.AutoConfig.for_model(family, **sizes, bos_token_id=1, eos_token_id=1, pad_token_id=0)
    model = transformers.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(place)
    words = {name: i for i, name in enumerate(["<pad>", "<eos>", "<unk>", *"abcdefghijklmnopqrstuvwxyz0123456789+"])}
    plain = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    plain.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    plain.decoder = decoders.Fuse()
    plain.add_special_tokens(["<pad>", "<eos>"])
    (place / "tokenizer.json").write_text(plain.to_str())
    (place / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<eos>", "pad_token": "<pad>"}))
    return place


def policy(place: Path, lora: int = 0, micro: int = 0) -> HubPolicy:
    options = Optimization(AdamW(lr=0.02, weight_decay=0.0), micro_rows=micro)
    return HubPolicy(read_hub(place, str(place), lora, 0.0).module(0), options)


def batch(seed: int = 0, count: int = 5, pack: bool = False) -> TokenBatch:
    rows = []
    for i in range(count):
        length = 4 + int(derive(seed, "n", i).below(6, 1)[0])
        rows.append(Row(derive(seed, "t", i).below(VOCAB, length).tolist(), [0, *([1] * (length - 1))]))
    return packed(rows, pad=0, length=20) if pack else padded(rows, pad=0)


def learn(own: HubPolicy, seeds: range, pack: bool = False) -> list[float]:
    losses = []
    for seed in seeds:
        given = batch(seed, pack=pack)
        n = tokens.count(given.mask_BT)
        losses.append(
            own.update(given, lambda logp, b=given, n=n: tokens.sft(logp, b.mask_BT, n), constant=True).value
        )
    return losses


@pytest.mark.parametrize("family", FAMILIES)
def test_log_probabilities_are_transformers_own_packed_or_not(family: str, tmp_path: Path) -> None:
    place = folder(tmp_path / "m", family)
    own, given = policy(place, micro=2), batch()
    model = transformers.AutoModelForCausalLM.from_pretrained(place).eval()
    with torch.inference_mode():
        logp = torch.log_softmax(model(torch.tensor(given.tokens_BT).long()).logits.double(), -1)
    wanted = np.take_along_axis(logp.numpy(), given.targets_BT[..., None].astype(int), -1)[..., 0]
    np.testing.assert_allclose(own.logprobs(given), np.where(given.mask_BT > 0, wanted, 0.0), atol=1e-5)
    together = batch(pack=True)
    for one, other in zip(together.split(own.logprobs(together)), given.split(own.logprobs(given)), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("lora", [0, 4])
def test_updates_do_not_depend_on_the_split_and_adapters_leave_the_base_alone(lora: int, tmp_path: Path) -> None:
    place = folder(tmp_path / "m")
    whole, cut, together = policy(place, lora), policy(place, lora, micro=2), policy(place, lora)
    losses = [learn(whole, range(3)), learn(cut, range(3)), learn(together, range(3), pack=True)]
    np.testing.assert_allclose(losses[1], losses[0], atol=1e-5)
    np.testing.assert_allclose(losses[2], losses[0], atol=1e-5)
    for name, array in whole.model.weights.items():
        np.testing.assert_allclose(cut.model.weights[name], array, atol=1e-4)
        assert not lora or "lora_" in name
    base = transformers.AutoModelForCausalLM.from_pretrained(place).state_dict()
    if lora:
        for name, tensor in whole.inside.model.get_base_model().state_dict().items():
            if "lora_" not in name:
                torch.testing.assert_close(tensor, base[name.replace(".base_layer", "")], rtol=0, atol=0)


@pytest.mark.parametrize("lora", [0, 4])
def test_a_restored_policy_goes_on_bit_by_bit(lora: int, tmp_path: Path) -> None:
    place = folder(tmp_path / "m")
    whole, first, second = (policy(place, lora) for _ in range(3))
    learn(whole, range(6))
    learn(first, range(3))
    second.restore(first.arrays())
    assert second.step == 3
    learn(second, range(3, 6))
    for name, array in whole.arrays().items():
        np.testing.assert_array_equal(second.arrays()[name], array, err_msg=name)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    "sampling",
    [Sampling(8, temperature=0.0, stop=(1, 5)), Sampling(8, stop=(5,)), Sampling(6, 0.8, top_k=9, top_p=0.9)],
    ids=repr,
)
def test_the_cache_writes_what_a_forward_per_token_writes(family: str, sampling: Sampling, tmp_path: Path) -> None:
    own = policy(folder(tmp_path / "m", family))
    prompts = [derive(1, "p", i).below(VOCAB, 1 + i % 5).tolist() for i in range(9)]
    streams = [derive(2, "rows").at(i) for i in range(9)]
    found, wanted = HubSampler(own)(prompts, sampling, streams), complete(own, prompts, sampling, streams)
    for one, other in zip(found, wanted, strict=True):
        assert one.tokens == other.tokens and one.stopped == other.stopped
        np.testing.assert_allclose(one.logps, other.logps, atol=1e-5)


def test_greedy_answers_are_those_of_generate(tmp_path: Path) -> None:
    place = folder(tmp_path / "m")
    model = transformers.AutoModelForCausalLM.from_pretrained(place).eval()
    for prompt in ([5, 6, 7], [9]):
        found = model.generate(torch.tensor([prompt]), max_new_tokens=8, do_sample=False, eos_token_id=None)
        own = HubSampler(policy(place))([prompt], Sampling(8, temperature=0.0), [derive(0)])
        assert list(own[0].tokens) == found[0, len(prompt) :].tolist()


def test_adapters_are_a_folder_that_peft_loads_and_merging_keeps_the_answers(tmp_path: Path) -> None:
    place = folder(tmp_path / "m")
    own = policy(place, lora=4)
    learn(own, range(5))
    wanted = own.logprobs(batch(9))
    files = read_hub(place, "", 0, 0.0).files()
    own.inside.save(tmp_path / "adapter", files)
    own.inside.save(tmp_path / "merged", files, merged=True)
    assert not (tmp_path / "adapter" / "model.safetensors").exists()
    base = transformers.AutoModelForCausalLM.from_pretrained(place)
    loaded = peft.PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    given = batch(9)
    with torch.inference_mode():
        logp = torch.log_softmax(loaded(torch.tensor(given.tokens_BT).long()).logits.double(), -1)
    theirs = np.take_along_axis(logp.numpy(), given.targets_BT[..., None].astype(int), -1)[..., 0]
    np.testing.assert_allclose(wanted, np.where(given.mask_BT > 0, theirs, 0.0), atol=1e-5)
    np.testing.assert_allclose(policy(tmp_path / "merged").logprobs(given), wanted, atol=1e-5)
    np.testing.assert_allclose(policy(tmp_path / "adapter").logprobs(given), wanted, atol=1e-5)
    again = policy(tmp_path / "adapter", lora=4)
    np.testing.assert_array_equal(again.logprobs(given), wanted)
    np.testing.assert_array_equal(own.logprobs(given), wanted)
    with pytest.raises(BackendError, match="have rank 4, lora asks for 8"):
        policy(tmp_path / "adapter", lora=8)


def test_folders_that_are_no_model_are_refused(tmp_path: Path) -> None:
    place = folder(tmp_path / "m")
    (place / "model.safetensors").unlink()
    with pytest.raises(BackendError, match="transformers cannot load"):
        policy(place)
    (place / "tokenizer_config.json").unlink()
    with pytest.raises(DataError, match="which token ends a text"):
        policy(place)


def longer(completion: str) -> float:
    """More of the letter a, fewer of the others."""
    return completion.count("a") / (1 + len(completion))


ROWS: dict[str, list[dict[str, Any]]] = {
    "pretrain": [{"text": "abcabcabc" * 3}] * 4,
    "sft": [{"prompt": f"{i}+", "completion": "ab"} for i in range(8)],
    "dpo": [{"prompt": f"{i}+", "chosen": "ab", "rejected": "cd"} for i in range(8)],
    "orpo": [{"prompt": f"{i}+", "chosen": "ab", "rejected": "cd"} for i in range(8)],
    "kto": [{"prompt": f"{i}+", "completion": "ab" if i % 2 else "cd", "label": bool(i % 2)} for i in range(8)],
    "reward": [{"prompt": f"{i}+", "chosen": "ab", "rejected": "cd"} for i in range(8)],
    "ppo": [{"prompt": f"{i}+"} for i in range(8)],
    "grpo": [{"prompt": f"{i}+"} for i in range(8)],
}


WHOLE = [pytest.param(name, 0, marks=[] if name in ("sft", "grpo") else pytest.mark.slow) for name in ROWS]
ADAPTED = [pytest.param(name, 4, marks=[] if name in ("dpo", "ppo", "reward") else pytest.mark.slow) for name in ROWS]


@pytest.mark.parametrize(("stage", "lora"), [*WHOLE, *ADAPTED])
def test_every_stage_trains_a_transformers_model_and_writes_one(stage: str, lora: int, tmp_path: Path) -> None:
    place = folder(tmp_path / "m")
    settings: dict[str, Any] = {
        "model": {"lora": lora},
        "data": {"held_out": 0.0, "length": 12},
        "train": {"steps": 8, "batch": 4, "lr": 0.01, "warmup": 0, "save_every": 4, "eval_every": 0},
        "rollout": {"prompts": 4, "group": 4, "max_tokens": 4, "kl": 0.05},
    }
    rewards = [longer] if stage in ("ppo", "grpo") else []
    done = train(stage, model=place, data=ROWS[stage], rewards=rewards, folder=tmp_path / "run", settings=settings)
    assert done.model is not None
    names = {path.name for path in done.model.iterdir()}
    assert {"tokenizer.json", "adapter_model.safetensors" if lora else "model.safetensors"} <= names
    if stage == "reward":
        kind = "SEQ_CLS" if lora else "LlamaForSequenceClassification"
        assert kind in (done.model / ("adapter_config.json" if lora else "config.json")).read_text()
    else:
        next_one = HubPolicy(read_hub(done.model, "", 0, 0.0).module(0))
        assert np.isfinite(next_one.logprobs(batch())).all()
        assert np.abs(next_one.logprobs(batch()) - policy(place).logprobs(batch())).max() > 1e-3


@pytest.mark.parametrize("lora", [0, 4])
def test_a_run_that_was_cut_goes_on_bit_by_bit(lora: int, tmp_path: Path) -> None:
    place = folder(tmp_path / "m")

    def run(name: str, steps: int, resume: bool = False) -> dict[str, np.ndarray]:
        settings: dict[str, Any] = {
            "model": {"lora": lora},
            "data": {"held_out": 0.0, "length": 12},
            "train": {"steps": 6, "lr": 0.01, "save_every": 1, "eval_every": 0},
            "rollout": {"prompts": 2, "group": 4, "max_tokens": 4},
        }
        recipe = validate({**settings, "stage": "grpo"}, Recipe, "a test")
        recipe = recipe.model_copy(update={"model": recipe.model.model_copy(update={"path": str(place)})})
        built = build(recipe, Given(data=ROWS["grpo"], rewards=(longer,)))
        run_stage(built.stage, StagePlan(steps, tmp_path / name, save_every=1, resume=resume))
        return built.stage.arrays()

    whole = run("whole", 6)
    run("cut", 3)
    for name, array in run("cut", 6, resume=True).items():
        np.testing.assert_array_equal(array, whole[name], err_msg=name)


def test_merging_writes_a_whole_model_and_the_native_backend_reads_a_family_as_a_network(tmp_path: Path) -> None:
    place = folder(tmp_path / "m")
    settings: dict[str, Any] = {"data": {"held_out": 0.0}, "train": {"steps": 2, "batch": 4}}
    merged = {**settings, "model": {"lora": 4, "merge": True}}
    done = train("sft", model=place, data=ROWS["sft"], folder=tmp_path / "a", settings=merged)
    assert done.model is not None and (done.model / "model.safetensors").exists()
    beside = {**settings, "model": {"lora": 4, "backend": "reference"}}
    adapted = train("sft", model=place, data=ROWS["sft"], settings=beside).built.adapted
    assert adapted is not None and len(adapted.pairs) >= 14  # of two layers
    other = train("sft", model=place, data=ROWS["sft"], settings={**settings, "model": {"backend": "reference"}})
    own = train("sft", model=place, data=ROWS["sft"], settings=settings)
    assert other.built.model.backend == "reference"
    assert other.result.last["loss"] == pytest.approx(own.result.last["loss"], rel=1e-4)
