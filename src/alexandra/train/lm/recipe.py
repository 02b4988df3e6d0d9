"""A recipe: everything that decides a training run of a language model, as TOML.

    stage = "grpo"
    [model]
    path = "runs/sft/model"
    [data]
    path = "questions.jsonl"
    [train]
    steps = 200
    [reward]
    functions = ["rewards.py:exact"]

Every key has a default but the stage, the model and the data. An unknown key is an error with a suggestion.
"""

from __future__ import annotations

import json
from typing import Literal, get_args

from pydantic import Field

from alexandra.config import Config
from alexandra.storage import content_hash

StageName = Literal[
    "pretrain", "sft", "dpo", "orpo", "kto", "reward", "ppo", "grpo", "distill", "rejection", "constitution"
]
STAGES: tuple[str, ...] = get_args(StageName)
SAMPLING_STAGES = ("ppo", "grpo", "rejection")  # they need a reward


class ModelConfig(Config):
    """`path`: a .nl file, the folder `model` of an earlier run, or (extra hf) a transformers model's folder or id.

    `lora`: the rank of adapters that are trained instead of the weights; `lora_alpha` 0 is twice the rank. Those of a
    transformers model are written as a PEFT folder, or with `merge` as a whole model; those of a network are merged
    into it. A transformers model runs in torch; backend = "native" (or "reference") reads it as a network, where its
    family is known.
    """

    path: str = ""
    backend: str = "auto"
    threads: int = Field(default=1, ge=1)
    lora: int = Field(default=0, ge=0)
    lora_alpha: float = Field(default=0.0, ge=0)
    merge: bool = False


class TokenizerConfig(Config):
    """`path`: a tokenizer's file or folder; without it the model's own, else the characters of the data."""

    path: str = ""
    eos: str = ""


class SourceConfig(Config):
    """One of several sources; `weight` is its share of the rows a run takes (of the tokens in pre-training)."""

    path: str
    weight: float = Field(default=0.0, ge=0)
    split: str = "train"


class DataConfig(Config):
    """`sources` instead of `path` is a mixture; without weights each source has the share of its rows.

    `held_out` is a share of the rows, chosen by their content; or name a file of its own. `length` 0: as needed."""

    path: str = ""
    held_out: float = Field(default=0.1, ge=0, lt=1)
    held_out_path: str = ""
    template: str = "plain"
    length: int = Field(default=0, ge=0)
    limit: int = Field(default=0, ge=0)
    split: str = "train"
    sources: tuple[SourceConfig, ...] = ()


class TrainConfig(Config):
    """Steps and the optimiser. `micro` rows go through the network at once; results do not depend on it.

    `fixed_order`: not even in rounding (documents go through one at a time, in an order of their own; slower).
    With `muon`, hidden matrices take steps of `muon_lr` with `momentum` (0: 0.95), all else those of AdamW at `lr`.
    `precision` (torch): what products are computed in; weights, moments and losses stay float32. fp8 needs torchao.
    `activation_checkpointing`: less memory, more time, the same numbers (native, torch).
    `decay` is the last share of the steps in which the schedule `wsd` falls. `ema` above 0 keeps an average of the
    weights, average = ema * average + (1 - ema) * weights after each step, which is measured and saved instead.
    """

    steps: int = Field(default=200, ge=1)
    batch: int = Field(default=32, ge=1)
    lr: float = Field(default=1e-3, gt=0)
    optimizer: Literal["adamw", "adam", "sgd", "muon"] = "adamw"
    beta1: float = Field(default=0.9, ge=0, lt=1)
    beta2: float = Field(default=0.95, ge=0, lt=1)
    momentum: float = Field(default=0.0, ge=0, lt=1)
    muon_lr: float = Field(default=0.02, gt=0)
    weight_decay: float = Field(default=0.1, ge=0)
    schedule: Literal["constant", "cosine", "linear", "wsd"] = "cosine"
    decay: float = Field(default=0.2, gt=0, le=1)
    warmup: int = Field(default=10, ge=0)
    final: float = Field(default=0.1, ge=0, le=1)
    clip: float = Field(default=1.0, ge=0)
    ema: float = Field(default=0.0, ge=0, lt=1)
    micro: int = Field(default=0, ge=0)
    precision: Literal["float32", "bf16", "fp16", "fp8"] = "float32"
    activation_checkpointing: bool = False
    fixed_order: bool = False
    pack: bool = False
    per_sequence: bool = False
    frozen: tuple[str, ...] = ()
    eval_every: int = Field(default=50, ge=0)
    save_every: int = Field(default=50, ge=0)
    keep: int = Field(default=2, ge=1)
    minutes: float = Field(default=0.0, ge=0)


class DPOConfig(Config):
    """objectives/preference.DPO."""

    beta: float = Field(default=0.1, gt=0)
    loss: Literal["sigmoid", "hinge", "ipo", "robust"] = "sigmoid"
    label_smoothing: float = Field(default=0.0, ge=0, lt=0.5)
    length_normalized: bool = False
    simpo_margin: float = Field(default=0.0, ge=0)


class KTOConfig(Config):
    """objectives/preference.KTO."""

    beta: float = Field(default=0.1, gt=0)
    desirable_weight: float = Field(default=1.0, gt=0)
    undesirable_weight: float = Field(default=1.0, gt=0)


class DistillConfig(Config):
    """objectives/distillation.Distillation; `teacher` is a model's folder, `on_policy` the share of own answers."""

    teacher: str = ""
    divergence: Literal["forward", "reverse", "jsd"] = "forward"
    temperature: float = Field(default=1.0, gt=0)
    mix: float = Field(default=0.5, gt=0, lt=1)
    on_policy: float = Field(default=0.0, ge=0, le=1)


class RejectionConfig(Config):
    """An answer with a reward of `at_least` passes; `learn` = false samples rows and trains nothing."""

    at_least: float = 1.0
    keep: Literal["best", "all"] = "best"
    learn: bool = True


class ConstitutionConfig(Config):
    """`path`: a file of principles (train/lm/constitution.py), without it the four default ones. `learn` steps teach
    critiques and revisions by the rules; then drafts and their revisions are pairs for DPO, or `then` = "rl"."""

    path: str = ""
    learn: int = Field(default=0, ge=0)
    rounds: int = Field(default=2, ge=1)
    then: Literal["dpo", "rl"] = "dpo"
    critique_tokens: int = Field(default=32, ge=1)


class RolloutConfig(Config):
    """How answers are sampled; `redraws` above 0 is dynamic sampling, `entropy` the weight of PPO's entropy bonus.

    `staleness` k: the answers of step n come from the weights before update n - k (0: on-policy), sampled meanwhile.
    `credit` (GRPO): which tokens a reward praises or blames: "answer" all alike; where a reward judges steps, "process"
    those up to each step by what it is worth beside the group's, "verdicts" each step by its own verdict.
    """

    variant: str = "grpo"
    prompts: int = Field(default=8, ge=1)
    group: int = Field(default=8, ge=1)
    max_tokens: int = Field(default=64, ge=1)
    temperature: float = Field(default=1.0, gt=0)
    top_k: int = Field(default=0, ge=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    redraws: int = Field(default=0, ge=0)
    epochs: int = Field(default=1, ge=1)
    minibatches: int = Field(default=1, ge=1)
    staleness: int = Field(default=0, ge=0)
    kl: float = Field(default=0.0, ge=0)
    entropy: float = Field(default=0.0, ge=0)
    credit: Literal["answer", "process", "verdicts"] = "answer"


class RewardConfig(Config):
    """`functions`: "file.py:name" each, run with the user's rights; `weights` as many.

    `timeout`: seconds for one answer (for a call of a function of batches) in a worker process; who takes longer has
    abstained. 0 calls functions in the training process, without a deadline.
    `constitution`: a file of principles, whose rules are rewards too. `check`: functions that judge held-out answers
    and never train; an alarm tells when they fall while the reward rises.
    """

    functions: tuple[str, ...] = ()
    weights: tuple[float, ...] = ()
    veto: float = 0.0
    timeout: float = Field(default=30.0, ge=0)
    constitution: str = ""
    check: tuple[str, ...] = ()
    on_alarm: Literal["warn", "stop"] = "warn"


class LogConfig(Config):
    """Where numbers go besides the run's own files; so many `samples` are written down with every measure."""

    tensorboard: str = ""
    mlflow: str = ""
    wandb: str = ""
    samples: int = Field(default=8, ge=0)


class Recipe(Config):
    """A whole run."""

    stage: StageName
    seed: int = 0
    model: ModelConfig
    data: DataConfig
    tokenizer: TokenizerConfig = TokenizerConfig()
    train: TrainConfig = TrainConfig()
    dpo: DPOConfig = DPOConfig()
    orpo_weight: float = Field(default=0.1, ge=0)
    kto: KTOConfig = KTOConfig()
    distill: DistillConfig = DistillConfig()
    rejection: RejectionConfig = RejectionConfig()
    constitution: ConstitutionConfig = ConstitutionConfig()
    rollout: RolloutConfig = RolloutConfig()
    reward: RewardConfig = RewardConfig()
    log: LogConfig = LogConfig()

    @property
    def settings_hash(self) -> str:
        """A hash of everything that decides the numbers (not where they are logged, nor how long the run may take)."""
        record = self.model_dump(mode="json", exclude={"log": True, "train": {"minutes", "keep"}})
        return content_hash(json.dumps(record, sort_keys=True).encode())
