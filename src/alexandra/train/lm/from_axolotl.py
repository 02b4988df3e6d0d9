"""Axolotl's YAML as a recipe: SFT, pre-training, a reward model, or what `rl` says.

Key names and defaults are those of Axolotl 0.19; a file that names no schedule trains with Axolotl's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from alexandra.errors import ConfigError
from alexandra.train.lm.translation import Rules, Translation, policy_variant, reward_functions

_AXOLOTL_STAGES = {"dpo": "dpo", "ipo": "dpo", "simpo": "dpo", "orpo": "orpo", "kto": "kto", "grpo": "grpo"}


class Axolotl(Rules):
    """Axolotl's YAML: SFT, pre-training, a reward model, or what `rl` says."""

    tool = "Axolotl"

    def translated(self) -> Translation:
        made = self.made
        made.put("rl" if "rl" in self.flat else "", "stage", self._stage())
        self.common()
        self.copy(
            {
                "base_model": "model.path",
                "tokenizer_config": "tokenizer.path",
                "special_tokens.eos_token": "tokenizer.eos",
                "sample_packing": "train.pack",
                "learning_rate": "train.lr",
                "adam_beta1": "train.beta1",
                "adam_beta2": "train.beta2",
                "save_total_limit": "train.keep",
                "wandb_project": "log.wandb",
                "mlflow_tracking_uri": "log.mlflow",
                "dpo_label_smoothing": "dpo.label_smoothing",
                "simpo_gamma": "dpo.simpo_margin",
                "orpo_alpha": "orpo_weight",
                "kto_desirable_weight": "kto.desirable_weight",
                "kto_undesirable_weight": "kto.undesirable_weight",
            }
        )
        made.recipe.setdefault("train", {}).setdefault("beta2", 0.999)
        for key, place, default in (
            ("weight_decay", "train.weight_decay", 0.0),
            ("max_grad_norm", "train.clip", 1.0),
            ("val_set_size", "data.held_out", 0.0),
        ):
            made.put(key if key in self.flat else "", place, float(self.value(key, default)))
        made.put("sequence_len" if "sequence_len" in self.flat else "", "data.length",
                 int(self.value("sequence_len", 512)) - 1)  # fmt: skip
        made.put("seed" if "seed" in self.flat else "", "seed", int(self.value("seed", 42)))
        self.optimizer("optimizer", "adamw_torch_fused")
        self.schedule("lr_scheduler", "cosine")
        if (final := self.value("cosine_min_lr_ratio")) is not None:
            made.put("cosine_min_lr_ratio", "train.final", float(final))
        self.lora(self.value("adapter") == "lora", "adapter")
        if self.value("adapter") not in (None, "lora"):
            self.leave("adapter", f"{self.flat['adapter']!r}: there is lora")
        self._data()
        batch = self.batch("micro_batch_size", 1)
        steps = self.steps(batch, self._rl(batch))
        self.rhythm(steps)
        self._per_epoch(steps)
        self._flags()
        return made

    def _stage(self) -> str:
        rl = self.value("rl")
        if rl:
            if rl not in _AXOLOTL_STAGES:
                raise ConfigError(f"rl: {rl!r} has no stage here", hint=f"one of {', '.join(_AXOLOTL_STAGES)}")
            return _AXOLOTL_STAGES[str(rl)]
        if self.value("reward_model"):
            self.made.taken["reward_model"] = "stage"
            return "reward"
        return "pretrain" if "pretraining_dataset" in self.given else "sft"

    def _data(self) -> None:
        for key in ("datasets", "pretraining_dataset", "test_datasets"):
            sets = self.given.get(key) or []
            sets = [{"path": sets}] if isinstance(sets, str) else sets if isinstance(sets, list) else [sets]
            if len(sets) > 1:
                ways = "join them into one file" if key == "test_datasets" else "name each in [[data.sources]]"
                self.leave(f"{key}[1].path", f"{len(sets)} data sets: the first is used; {ways}")
            if sets:
                self._set(key, sets[0])
        if self.given.get("chat_template") is not None:
            self.made.put("", "data.template", "chat")
            self.leave("chat_template", f"{self.given['chat_template']!r}: the template 'chat' is used")

    def _set(self, key: str, one: Mapping[str, Any]) -> None:
        at = f"{key}[0]." if isinstance(self.given.get(key), list) else f"{key}."
        at = at if f"{at}path" in self.flat else key
        place = "data.held_out_path" if key == "test_datasets" else "data.path"
        files = one.get("data_files")
        path = files if isinstance(files, str) else one.get("path")
        self.made.put(f"{at}path" if at != key else key, place, path)
        if files:
            self.made.taken[f"{at}data_files"] = place
        if "split" in one:
            self.made.put(f"{at}split", "data.split", one["split"])
        if "ds_type" in one:
            self.made.no_effect[f"{at}ds_type"] = "the file's name says it"
        kind = one.get("type")
        if kind in ("chat_template", "sharegpt", "alpaca", "completion", "pretrain", "input_output"):
            known = kind in ("chat_template", "sharegpt", "completion", "pretrain")
            notes = self.made.no_effect if known else self.made.left
            notes[f"{at}type"] = "columns are known by their names" if known else f"{kind}: its wording is not used"

    def _rl(self, batch: int) -> int:
        beta = next((key for key in ("trl.beta", "rl_beta", "dpo_beta") if self.value(key) is not None), "")
        stage = self.made.recipe["stage"]
        place = {"dpo": "dpo.beta", "kto": "kto.beta", "grpo": "rollout.kl"}.get(stage)
        if beta and place:
            self.made.put(beta, place, float(self.value(beta)))
        rl = self.value("rl")
        if rl == "ipo":
            self.made.put("rl", "dpo.loss", "ipo")
        if rl == "simpo":
            self.made.put("rl", "dpo.length_normalized", True)
        if stage != "grpo":
            return 0
        rules = {
            "trl.temperature": "rollout.temperature",
            "trl.top_p": "rollout.top_p",
            "trl.top_k": "rollout.top_k",
            "trl.max_completion_length": "rollout.max_tokens",
            "trl.num_iterations": "rollout.epochs",
            "trl.reward_weights": "reward.weights",
        }
        self.copy(rules)
        policy_variant(self, "trl.")
        reward_functions(self, "trl.reward_funcs")
        group = int(self.value("trl.num_generations", 8))
        self.made.put("trl.num_generations" if "trl.num_generations" in self.flat else "", "rollout.group", group)
        self.made.put("", "rollout.prompts", max(1, batch // group))
        return max(1, batch // group)

    def _per_epoch(self, steps: int) -> None:
        epochs = max(1.0, float(self.value("num_epochs", 1.0)))
        for key, place in (("saves_per_epoch", "train.save_every"), ("evals_per_epoch", "train.eval_every")):
            if (count := self.value(key)) is not None:
                self.made.put(key, place, max(1, math.ceil(steps / epochs / count)) if count else 0)

    def _flags(self) -> None:
        if self.value("train_on_inputs"):
            self.leave("train_on_inputs", "true: here prompts are never learnt")
        elif "train_on_inputs" in self.flat:
            self.made.no_effect["train_on_inputs"] = "prompts are never learnt"
        if self.value("use_tensorboard"):
            self.made.put("use_tensorboard", "log.tensorboard", str(self.value("output_dir", "runs")))
