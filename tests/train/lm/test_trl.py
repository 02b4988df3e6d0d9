"""Our objectives give the values of TRL's trainers for the batches that these train on (dev extra trl).

Each trainer runs for a few steps; its loss is caught with what it read and with the weights of that moment, and the
same rows go through our policy, masks, advantages and objective.
"""

import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
trl = pytest.importorskip("trl")
datasets = pytest.importorskip("datasets")
transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")

from alexandra.backends.pytorch_hub import HubModule  # noqa: E402
from alexandra.objectives import tokens  # noqa: E402
from alexandra.objectives.advantages import advantages  # noqa: E402
from alexandra.objectives.policy import GRPO, Sampled, normalizer, policy_loss  # noqa: E402
from alexandra.objectives.preference import DPO, Answers, dpo  # noqa: E402
from alexandra.train.lm.batch import Row, TokenBatch, padded  # noqa: E402
from alexandra.train.lm.hub import HubPolicy  # noqa: E402

pytestmark = pytest.mark.slow
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789+= "
LIMIT = 1e-5


def tokenizer() -> Any:

    words = {name: i for i, name in enumerate(["<pad>", "<eos>", "<unk>", *LETTERS])}
    plain = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="<unk>"))
    plain.pre_tokenizer = tokenizers.pre_tokenizers.Split("", "isolated")
    plain.decoder = tokenizers.decoders.Fuse()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=plain, pad_token="<pad>", eos_token="<eos>")


def model(seed: int = 0) -> Any:

    torch.manual_seed(seed)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.LlamaConfig(vocab_size=3 + len(LETTERS), num_key_value_heads=2, **sizes)
    made = transformers.LlamaForCausalLM(config)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return made


def settings(kind: Any, folder: Path, **changes: Any) -> Any:
    plain = {"use_cpu": True, "bf16": False, "report_to": "none", "save_strategy": "no", "disable_tqdm": True}
    plain |= {"learning_rate": 5e-3, "lr_scheduler_type": "constant", "gradient_checkpointing": False}
    return kind(output_dir=str(folder), per_device_train_batch_size=8, **{**plain, **changes})


def caught(trainer: Any, name: str, ours: Callable[[Any, Any], float]) -> list[tuple[float, float]]:
    """Train; (TRL's loss, ours) of every call of the trainer's method `name`."""
    true, found = getattr(trainer, name), list[tuple[float, float]]()

    def watched(used: Any, inputs: Any, *rest: Any, **named: Any) -> Any:
        given = {key: value.clone() if hasattr(value, "clone") else value for key, value in inputs.items()}
        own = ours(deepcopy(trainer.accelerator.unwrap_model(used)).eval(), given)
        result = true(used, inputs, *rest, **named)
        found.append((float((result[0] if isinstance(result, tuple) else result).detach()), own))
        return result

    setattr(trainer, name, watched)
    trainer.train()
    return found


def logps(used: Any, batch: TokenBatch) -> np.ndarray:
    return HubPolicy(HubModule(used)).logprobs(batch)


def rows_of(ids: Any, seen: Any, learnt: Any) -> TokenBatch:
    rows = []
    for own, is_there, counts in zip(ids, seen, learnt, strict=True):
        keep = is_there.bool()
        rows.append(Row(own[keep].tolist(), counts[keep].long().tolist()))
    return padded(rows, pad=0)


def test_sft_over_two_accumulated_batches(tmp_path: Path) -> None:
    rows = [{"prompt": f"{i}+{i}=", "completion": str(2 * i) * (1 + i % 3)} for i in range(16)]
    data = datasets.Dataset.from_list(rows)
    config = settings(trl.SFTConfig, tmp_path, max_steps=2, gradient_accumulation_steps=2)
    trainer = trl.SFTTrainer(model(), config, train_dataset=data, processing_class=tokenizer())
    parts: list[tuple[TokenBatch, np.ndarray]] = []

    def ours(used: Any, given: Any) -> float:
        batch = rows_of(given["input_ids"], given["attention_mask"], given["labels"] != -100)
        parts.append((batch, logps(used, batch)))
        return 0.0

    theirs = [loss for loss, _ in caught(trainer, "compute_loss", ours)]
    for step in range(2):
        both = parts[2 * step : 2 * step + 2]
        total = sum(tokens.count(batch.mask_BT) for batch, _ in both)
        value = sum(tokens.sft(logp, batch.mask_BT, total).value for batch, logp in both)
        assert sum(theirs[2 * step : 2 * step + 2]) == pytest.approx(value, abs=LIMIT)


@pytest.mark.parametrize(("loss", "smoothing"), [("sigmoid", 0.0), ("hinge", 0.0), ("ipo", 0.0), ("robust", 0.1)])
def test_dpo(loss: str, smoothing: float, tmp_path: Path) -> None:
    rows = [{"prompt": f"{i}+", "chosen": "abc"[: 1 + i % 3], "rejected": "xyzw"[: 1 + i % 4]} for i in range(16)]
    config = settings(trl.DPOConfig, tmp_path, max_steps=2, loss_type=[loss], label_smoothing=smoothing, beta=0.3)
    data = datasets.Dataset.from_list(rows)
    trainer = trl.DPOTrainer(model(), model(1), config, train_dataset=data, processing_class=tokenizer())
    reference = model(1).eval()

    def ours(used: Any, given: Any) -> float:
        batch = rows_of(given["input_ids"], given["attention_mask"], given["completion_mask"])
        both = logps(used, batch), logps(reference, batch), batch.mask_BT
        half = len(batch.mask_BT) // 2
        chosen, rejected = (Answers.of(*(array[part] for array in both)) for part in (slice(half), slice(half, None)))
        return dpo(chosen, rejected, DPO(0.3, loss, smoothing), float(half))[0].value

    found = caught(trainer, "_compute_loss", ours)
    assert len(found) == 2 and found[0][0] != found[1][0]
    np.testing.assert_allclose(*np.transpose(found), atol=LIMIT)


CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "grpo": ({"loss_type": "grpo"}, {}),
    "grpo with kl": ({"loss_type": "grpo", "beta": 0.1, "use_bias_correction_kl": False}, {"beta": 0.1}),
    "dapo": ({"loss_type": "dapo", "epsilon_high": 0.28}, {"mean": "token", "clip_high": 0.28}),
    "dr_grpo": (
        {"loss_type": "dr_grpo", "scale_rewards": "none"},
        {"mean": "constant", "advantage": "centered", "max_tokens": 6},
    ),
    "cispo": (
        {"loss_type": "cispo", "epsilon_high": 1.02},
        {"ratio": "clipped_weight", "mean": "token", "clip_low": 1.0, "clip_high": 0.02},
    ),
    "gspo": (
        {"loss_type": "grpo", "importance_sampling_level": "sequence", "epsilon": 3e-4, "epsilon_high": 4e-4},
        {"ratio": "sequence", "clip_low": 3e-4, "clip_high": 4e-4},
    ),
    "two-sided": ({"loss_type": "grpo", "epsilon": 0.01}, {"clip_low": 0.01, "clip_high": 0.01}),
}


@pytest.mark.parametrize("name", CASES)
def test_grpo(name: str, tmp_path: Path) -> None:
    """Two updates on the same answers: in the second one the ratio is not 1."""

    theirs, changes = CASES[name]
    scored: list[list[float]] = []

    def reward(completions: list[str], **_: Any) -> list[float]:
        scored.append([text.count("a") + 0.1 * len(text) for text in completions])
        return scored[-1]

    config = settings(
        trl.GRPOConfig,
        tmp_path / "run",
        max_steps=2,
        num_generations=4,
        num_iterations=2,
        max_completion_length=6,
        model_init_kwargs={"dtype": "float32"},
        **theirs,
    )
    data = datasets.Dataset.from_list([{"prompt": f"{i}+"} for i in range(16)])
    reference = model()
    reference.save_pretrained(tmp_path / "m")  # TRL makes its reference from the policy's folder
    trainer = trl.GRPOTrainer(str(tmp_path / "m"), reward, config, train_dataset=data, processing_class=tokenizer())
    objective = GRPO(**changes)

    def ours(used: Any, given: Any) -> float:
        ids = torch.cat([given["prompt_ids"], given["completion_ids"]], 1)
        seen = torch.cat([given["prompt_mask"], given["completion_mask"]], 1)
        learnt = torch.cat([torch.zeros_like(given["prompt_mask"]), given["completion_mask"]], 1)
        batch = rows_of(ids, seen, learnt)
        logp_BT = logps(used, batch)
        old_BT = np.zeros_like(logp_BT)
        both = zip(given["old_per_token_logps"], given["completion_mask"], strict=True)
        for row, (values, counts) in enumerate(both):
            old_BT[row, batch.mask_BT[row] > 0] = values[counts.bool()].double().numpy()
        # TRL shuffles the answers of a step; its advantages are the group's, found again by their value
        known = advantages(np.reshape(scored[-1], (-1, 4)), objective.advantage).reshape(-1)
        advantage_B = given["advantages"].double().numpy()
        np.testing.assert_allclose(np.sort(advantage_B), np.sort(known), atol=LIMIT)
        reference_BT = logps(reference, batch) if objective.beta else None
        sampled = Sampled(old_BT, advantage_B, batch.mask_BT, reference_BT)
        return policy_loss(logp_BT, sampled, objective, normalizer(batch.mask_BT, objective)).value

    found = caught(trainer, "_compute_loss", ours)
    assert len(found) == 2 and found[0][0] != found[1][0], json.dumps(found)
    np.testing.assert_allclose(*np.transpose(found), atol=LIMIT)
