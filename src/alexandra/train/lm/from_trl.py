"""TRL's configurations as recipes: `trl STAGE --config FILE`, or the fields of a dumped SFTConfig and its kin.

Key names and defaults are those of TRL 1.16; a file that names no learning rate trains with TRL's.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from alexandra.errors import ConfigError
from alexandra.train.lm.recipe import STAGES
from alexandra.train.lm.translation import WRITES, Rules, Translation, Values, policy_variant, reward_functions

_TRL_RATES = {"sft": 2e-5, "dpo": 1e-6, "kto": 1e-6, "reward": 1e-4, "grpo": 1e-6}
_TRL_SIGNS = {
    "grpo": ("num_generations", "max_completion_length", "reward_funcs", "scale_rewards"),
    "kto": ("desirable_weight", "undesirable_weight"),
    "reward": ("center_rewards_coefficient",),
    "dpo": ("label_smoothing", "f_divergence_type", "ld_alpha", "precompute_ref_log_probs"),
    "sft": ("packing", "assistant_only_loss", "completion_only_loss", "dataset_text_field"),
}


def trl_stage(given: Values, path: Path) -> str:
    """What a file is for, by a word of its name or by keys that only one trainer has."""
    words = path.stem.lower().replace("-", "_").split("_")
    named = [stage for stage in STAGES if stage in words]
    signs = [stage for stage, keys in _TRL_SIGNS.items() if any(given.get(key) is not None for key in keys)]
    return (named or signs or [""])[0]


class TRL(Rules):
    """`trl STAGE --config FILE`, or the fields of an SFTConfig, DPOConfig, KTOConfig, RewardConfig or GRPOConfig."""

    tool, epochs = "TRL", 3.0

    def __init__(self, given: Values, path: Path, stage: str) -> None:
        super().__init__(given, path)
        self.stage = stage or trl_stage(given, path)
        if self.stage not in _TRL_RATES:
            known = ", ".join(_TRL_RATES)
            raise ConfigError(f"{str(path)!r} does not show which trainer it is for", hint=f"--stage: one of {known}")

    def translated(self) -> Translation:
        made = self.made
        made.put("", "stage", self.stage)
        self.common()
        self.copy(
            {
                "model_name_or_path": "model.path",
                "dataset_name": "data.path",
                "dataset_train_split": "data.split",
                "weight_decay": "train.weight_decay",
                "adam_beta1": "train.beta1",
                "adam_beta2": "train.beta2",
                "save_total_limit": "train.keep",
                "eos_token": "tokenizer.eos",
            }
        )
        made.put("learning_rate" if "learning_rate" in self.flat else "", "train.lr",
                 self.value("learning_rate", _TRL_RATES[self.stage]))  # fmt: skip
        made.recipe["train"].setdefault("weight_decay", 0.0)
        made.recipe["train"].setdefault("beta2", 0.999)
        made.put("max_grad_norm" if "max_grad_norm" in self.flat else "", "train.clip",
                 float(self.value("max_grad_norm", 1.0)))  # fmt: skip
        made.put("seed" if "seed" in self.flat else "", "seed", int(self.value("seed", 42)))
        self.optimizer("optim", "adamw_torch_fused")
        self.schedule("lr_scheduler_type", "linear")
        self.lora(bool(self.value("use_peft")), "use_peft")
        self._data()
        batch = self.batch("per_device_train_batch_size", 8)
        steps = self.steps(batch, self._rollout(batch) if self.stage == "grpo" else 0)
        self.rhythm(steps)
        _PARTS[self.stage](self)
        self._report()
        return made

    def _data(self) -> None:
        test = self.value("dataset_test_split")
        if test not in (None, "test"):
            self.leave("dataset_test_split", f"{test!r}: name held-out rows by data.held_out_path")
        elif test is not None:
            self.made.no_effect["dataset_test_split"] = WRITES
        self.made.put("", "data.held_out", 0.0)

    def _report(self) -> None:
        given = self.value("report_to")
        for name in [given] if isinstance(given, str) else given or []:
            if name in ("tensorboard", "mlflow", "wandb"):
                self.made.put("report_to", f"log.{name}", str(self.value("run_name", "runs")))
            elif name != "none":
                self.leave("report_to", f"{name!r} is not known; tensorboard, mlflow and wandb are")
        if given in ("none", [], ["none"]):
            self.made.taken["report_to"] = "log"

    def _sft(self) -> None:
        self.copy({"packing": "train.pack"})
        self._length("max_length", 1024)
        if self.value("loss_type", "nll") != "nll":
            self.leave("loss_type", f"{self.flat['loss_type']!r}: the loss is the likelihood of the answers")
        elif "loss_type" in self.flat:
            self.made.taken["loss_type"] = "stage"
        if self.value("assistant_only_loss"):
            self.made.no_effect["assistant_only_loss"] = "only assistants' turns are learnt, always"
        elif "assistant_only_loss" in self.flat:
            self.leave("assistant_only_loss", "false: here users' turns are never learnt")
        if self.value("completion_only_loss") is False:
            self.leave("completion_only_loss", "false: here prompts are never learnt")
        elif "completion_only_loss" in self.flat:
            self.made.no_effect["completion_only_loss"] = "only answers are learnt, always"
        if self.value("dataset_text_field") == "text":
            self.made.no_effect["dataset_text_field"] = "the column text is read by that name"

    def _dpo(self) -> None:
        self.copy({"beta": "dpo.beta", "label_smoothing": "dpo.label_smoothing"})
        self._length("max_length", 1024)
        losses = self.value("loss_type", ["sigmoid"])
        losses = [losses] if isinstance(losses, str) else losses
        if len(losses) == 1 and losses[0] in ("sigmoid", "hinge", "ipo", "robust"):
            self.made.put("loss_type" if "loss_type" in self.flat else "", "dpo.loss", losses[0])
        else:
            self.leave("loss_type", f"{losses!r}: one of sigmoid, hinge, ipo, robust")
        if self.value("f_divergence_type", "reverse_kl") == "reverse_kl" and "f_divergence_type" in self.flat:
            self.made.no_effect["f_divergence_type"] = "it is the one there is"
        self._off("sync_ref_model", "use_weighting", "disable_dropout")

    def _kto(self) -> None:
        self.copy({f"{name}": f"kto.{name}" for name in ("beta", "desirable_weight", "undesirable_weight")})
        self._length("max_length", 1024)
        self._off("sync_ref_model", "disable_dropout")

    def _reward(self) -> None:
        self._length("max_length", 1024)
        if self.value("center_rewards_coefficient") not in (None, 0.01):
            self.leave("center_rewards_coefficient", "it is 0.01 here")
        elif "center_rewards_coefficient" in self.flat:
            self.made.no_effect["center_rewards_coefficient"] = "it is the one there is"
        self._off("disable_dropout")

    def _length(self, key: str, default: int) -> None:
        """TRL counts tokens, a recipe the positions that predict one."""
        self.made.put(key if key in self.flat else "", "data.length", int(self.value(key, default)) - 1)

    def _off(self, *names: str) -> None:
        for name in names:
            if name in self.flat and (not self.value(name) or name == "disable_dropout"):
                self.made.no_effect[name] = "there is none"

    def _rollout(self, batch: int) -> int:
        """Prompts a step. A batch of TRL counts answers."""
        group = int(self.value("num_generations", 8))
        self.made.put("num_generations" if "num_generations" in self.flat else "", "rollout.group", group)
        prompts = max(1, batch // group)
        if batch % group:
            self.leave("num_generations", f"{batch} answers a step are no multiple of {group}")
        self.made.put("", "rollout.prompts", prompts)
        return prompts

    def _grpo(self) -> None:
        self.copy(
            {
                "temperature": "rollout.temperature",
                "top_p": "rollout.top_p",
                "top_k": "rollout.top_k",
                "num_iterations": "rollout.epochs",
                "reward_weights": "reward.weights",
            }
        )
        made = self.made
        made.put("max_completion_length" if "max_completion_length" in self.flat else "", "rollout.max_tokens",
                 int(self.value("max_completion_length", 512)))  # fmt: skip
        made.put("beta" if "beta" in self.flat else "", "rollout.kl", float(self.value("beta", 0.0)))
        policy_variant(self, "")
        reward_functions(self, "reward_funcs")
        self._off("mask_truncated_completions", "sync_ref_model", "use_adaptive_entropy", "disable_dropout")


_PARTS: dict[str, Callable[[TRL], None]] = {
    "sft": TRL._sft,
    "dpo": TRL._dpo,
    "kto": TRL._kto,
    "reward": TRL._reward,
    "grpo": TRL._grpo,
}
