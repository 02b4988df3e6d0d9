"""What becomes of another trainer's configuration: the recipe, and for every key whether it was taken over.

Rules of TRL and Axolotl that are the same (from_trl.py, from_axolotl.py have their own). Every key ends in one of
three lists: taken over, without effect here (where it writes, how it computes), or not taken over, because this
project cannot do what it says or does not know it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from alexandra.errors import DataError
from alexandra.train.lm import examples

Values = dict[str, Any]


@dataclass
class Translation:
    """A recipe's values, and what became of every key of the file."""

    source: str
    recipe: Values
    taken: dict[str, str] = field(default_factory=dict)
    no_effect: dict[str, str] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)

    def put(self, key: str, place: str, value: Any) -> None:
        """Set section.key (or a key of the top) of the recipe, and note that `key` decided it."""
        section, dot, name = place.rpartition(".")
        (self.recipe.setdefault(section, {}) if dot else self.recipe)[name] = value
        if key:
            self.taken[key] = place

    def toml(self) -> str:
        """The recipe's text, with what was not taken over as comments."""
        lines = [f"# From {self.source}."]
        lines += [f"# Not taken over: {key}: {why}" for key, why in self.left.items()]
        lines += [f"# Without effect here: {key}: {why}" for key, why in self.no_effect.items()]
        plain = {name: value for name, value in self.recipe.items() if not isinstance(value, dict)}
        lines += [f"{name} = {_toml(value)}" for name, value in plain.items()]
        for name, section in self.recipe.items():
            if isinstance(section, dict):
                lines += ["", f"[{name}]", *(f"{key} = {_toml(value)}" for key, value in section.items())]
        return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(_toml(one) for one in value)}]"
    return json.dumps(value, ensure_ascii=False)


def flat(given: Mapping[str, Any], before: str = "") -> Values:
    """Keys of Axolotl's section `trl` and of lists of data sets by their path."""
    found: Values = {}
    for key, value in given.items():
        name = f"{before}{key}"
        if isinstance(value, Mapping):
            found |= flat(value, f"{name}.")
        elif isinstance(value, list) and value and all(isinstance(one, Mapping) for one in value):
            for i, one in enumerate(value):
                found |= flat(one, f"{name}[{i}].")
        else:
            found[name] = value
    return found


# --- what both share ----------------------------------------------------------------------------------------

_OPTIMIZERS = {
    "adamw_torch": "adamw",
    "adamw_torch_fused": "adamw",
    "adamw_hf": "adamw",
    "adamw_8bit": "adamw",
    "adamw_bnb_8bit": "adamw",
    "paged_adamw_8bit": "adamw",
    "sgd": "sgd",
}
_PRECISIONS = {"fp8": "fp8", "fp16": "fp16", "float16": "fp16", "bf16": "bf16", "bfloat16": "bf16"}
COMPUTES = "how it is computed; results do not depend on it"
WRITES = "where and how often things are written; --runs names the folder"
_COMPUTED = """
    gradient_checkpointing_kwargs activation_offloading dataset_num_proc dataset_processes
    flash_attention sdp_attention attn_implementation use_liger_kernel dataloader_num_workers tf32 ddp_timeout
    dataloader_pin_memory low_cpu_mem_usage torch_compile pad_to_multiple_of pad_to_sequence_len group_by_length
    ddp_find_unused_parameters use_vllm vllm_mode vllm_gpu_memory_utilization precompute_ref_log_probs
    precompute_ref_batch_size padding_free model_type tokenizer_type is_llama_derived_model xformers_attention
    is_mistral_derived_model deepspeed fsdp fsdp_config local_rank trl.use_vllm eval_sample_packing strict
    eval_batch_size per_device_eval_batch_size hf_use_auth_token trl.log_completions dataset_keep_in_memory
"""
_WRITTEN = """
    output_dir logging_steps logging_first_step logging_strategy run_name push_to_hub hub_model_id hub_strategy
    overwrite_output_dir dataset_prepared_path wandb_name wandb_entity wandb_watch wandb_log_model wandb_run_id
    save_safetensors log_completions log_multimodal num_completions_to_print eval_strategy save_strategy
    mlflow_experiment_name use_mlflow wandb_mode log_unique_prompts disable_tqdm
"""
_NO_EFFECT = {**dict.fromkeys(_COMPUTED.split(), COMPUTES), **dict.fromkeys(_WRITTEN.split(), WRITES)}


class Rules:
    """A file, and the tables that say what its keys mean."""

    tool = ""

    def __init__(self, given: Values, path: Path) -> None:
        self.given, self.path, self.flat = given, path, flat(given)
        self.made = Translation(f"{self.tool} configuration {path.name}", {"stage": "", "model": {}, "data": {}})

    def copy(self, rules: Mapping[str, str]) -> None:
        """Keys whose value is taken as it is; numbers in scientific notation that YAML reads as text become numbers."""
        for key, place in rules.items():
            if (value := self.flat.get(key)) is not None:
                self.made.put(key, place, _number(value) if isinstance(value, str) else value)

    def value(self, key: str, default: Any = None) -> Any:
        found = self.flat.get(key)
        return default if found is None else _number(found) if isinstance(found, str) else found

    def leave(self, key: str, why: str) -> None:
        self.made.left[key] = why

    def common(self) -> None:
        for key, why in _NO_EFFECT.items():
            if key in self.flat:
                self.made.no_effect[key] = why
        for key, name in _PRECISIONS.items():
            if self.value(key) is True:
                self.made.put(key, "train.precision", name)
            elif key in self.flat:
                self.made.no_effect[key] = "it is off" if self.value(key) is False else COMPUTES
        if self.value("gradient_checkpointing"):
            self.made.put("gradient_checkpointing", "train.activation_checkpointing", True)
        elif "gradient_checkpointing" in self.flat:
            self.made.no_effect["gradient_checkpointing"] = "it is off"
        for key in ("dtype", "torch_dtype"):
            if self.value(key) not in (None, False, "auto", "float32"):
                self.leave(key, f"{self.flat[key]!r}: weights are float32; precision = 'bf16' computes in less")
            elif key in self.flat:
                self.made.no_effect[key] = COMPUTES
        for key in ("load_in_4bit", "load_in_8bit", "trust_remote_code"):
            if self.value(key):
                self.leave(key, "weights stay in float32" if key != "trust_remote_code" else "no code of a model runs")
            elif key in self.flat:
                self.made.no_effect[key] = "it is off"

    def optimizer(self, key: str, default: str) -> None:
        name = str(self.value(key, default))
        if name in _OPTIMIZERS:
            self.made.put(key if key in self.flat else "", "train.optimizer", _OPTIMIZERS[name])
        else:
            self.leave(key, f"there is no optimiser {name!r}; AdamW is used")
        if "8bit" in name:
            self.leave(key, f"{name!r}: moments are float32 here")

    def schedule(self, key: str, default: str) -> None:
        """Cosine, linear and constant are ours too; those that fall end at 0."""
        name = str(self.value(key, default))
        known = {
            "cosine": "cosine",
            "linear": "linear",
            "constant": "constant",
            "constant_with_warmup": "constant",
        }
        if name in known:
            self.made.put(key if key in self.flat else "", "train.schedule", known[name])
        else:
            said = "" if key in self.flat else ", the default of the tool"
            self.leave(key, f"there is no schedule {name!r}{said}; cosine is used")
            self.made.put("", "train.schedule", "cosine")
        self.made.put("", "train.final", 0.0)

    def steps(self, batch: int, prompts_a_step: int = 0) -> int:
        """Updates of the whole run: max_steps, or epochs over the rows of the data."""
        most, epochs = self.value("max_steps", -1), self.value("num_epochs", self.value("num_train_epochs"))
        epochs = float(self.epochs if epochs is None else epochs)
        key = "num_epochs" if "num_epochs" in self.flat else "num_train_epochs"
        if most is not None and int(most) > 0:
            self.made.put("max_steps", "train.steps", int(most))
            if key in self.flat:
                self.made.no_effect[key] = "max_steps says when training ends"
            return int(most)
        rows = self._rows()
        if not rows:
            self.leave(key, f"{epochs:g} epochs of unknown length: put train.steps; 200 steps are assumed")
            return 200
        steps = max(1, math.ceil(math.ceil(rows / (prompts_a_step or batch)) * epochs))
        self.made.put(key if key in self.flat else "", "train.steps", steps)
        return steps

    epochs = 1.0

    def _rows(self) -> int:
        """Rows to train on, where the data is a file that can be read now."""
        data = self.made.recipe["data"]
        place = self.path.parent / str(data.get("path", ""))
        if not data.get("path") or not place.exists():
            return 0
        try:
            found = len(examples.read_records(place))
        except DataError:
            return 0
        return found - int(found * float(data.get("held_out", 0.0)))

    def rhythm(self, steps: int) -> None:
        """save_steps, eval_steps, warm-up and their spellings as shares of the run."""
        for key, place in (("save_steps", "train.save_every"), ("eval_steps", "train.eval_every")):
            if (value := self.value(key)) is not None:
                self.made.put(key, place, _share(value, steps))
        warm = self.value("warmup_steps")
        if warm is not None:
            self.made.put("warmup_steps", "train.warmup", _share(warm, steps))
        ratio = self.value("warmup_ratio")
        if ratio is not None:
            self.made.put("warmup_ratio", "train.warmup", math.ceil(float(ratio) * steps))
        if warm is None and ratio is None:
            self.made.put("", "train.warmup", 0)

    def batch(self, micro_key: str, micro_default: int) -> int:
        micro, accumulate = int(self.value(micro_key, micro_default)), int(self.value("gradient_accumulation_steps", 1))
        self.made.put(micro_key if micro_key in self.flat else "", "train.batch", micro * accumulate)
        if accumulate > 1:
            self.made.put("gradient_accumulation_steps", "train.micro", micro)
        elif "gradient_accumulation_steps" in self.flat:
            self.made.taken["gradient_accumulation_steps"] = "train.batch"
        return micro * accumulate

    def lora(self, wanted: bool, key: str) -> None:
        if key in self.flat:
            self.made.taken[key] = "model.lora"
        if wanted:
            self.made.put("lora_r" if "lora_r" in self.flat else "", "model.lora", int(self.value("lora_r", 16)))
        elif "lora_r" in self.flat:
            self.made.no_effect["lora_r"] = "adapters are off"
        rank = int(self.value("lora_r", 16))
        for name in ("lora_alpha", "lora_dropout", "lora_target_modules", "lora_target_linear", "lora_modules_to_save"):
            if name in self.flat and not wanted:
                self.made.no_effect[name] = "adapters are off"
            elif name in self.flat and not (name == "lora_dropout" and not self.value(name)):
                self.leave(name, f"{self.flat[name]!r}: adapters of rank {rank} have their defaults here")


def _number(text: str) -> Any:
    """5e-5 is text for YAML 1.1 without a point; a text that is no number stays."""
    try:
        return float(text) if any(c.isdigit() for c in text) else text
    except ValueError:
        return text


def _share(value: Any, steps: int) -> int:
    """A number below 1 is a share of the run."""
    return math.ceil(value * steps) if 0 < value < 1 else int(value)


def policy_variant(rules: Rules, before: str) -> None:
    """loss_type, epsilon, importance_sampling_level and scale_rewards together are one named variant, or none."""
    keys = ("loss_type", "epsilon", "epsilon_high", "importance_sampling_level", "scale_rewards")
    low = float(rules.value(f"{before}epsilon", 0.2))
    high = float(rules.value(f"{before}epsilon_high", low))
    scale = {True: "group", False: "none"}.get(*[rules.value(f"{before}scale_rewards", "group")] * 2)
    shape = (
        rules.value(f"{before}loss_type", "dapo"), low, high,
        rules.value(f"{before}importance_sampling_level", "token"), scale,
    )  # fmt: skip
    name = _VARIANTS.get(shape)
    for key in keys:
        if f"{before}{key}" in rules.flat and name:
            rules.made.taken[f"{before}{key}"] = "rollout.variant"
        elif f"{before}{key}" in rules.flat:
            rules.leave(f"{before}{key}", f"{shape} together are no variant of rollout.variant; grpo is used")
    if not name and not any(f"{before}{key}" in rules.flat for key in keys):
        rules.leave(f"{before}loss_type", f"the default {shape} is no variant of rollout.variant; grpo is used")
    rules.made.put("", "rollout.variant", name or "grpo")


# (loss_type, epsilon, epsilon_high, importance_sampling_level, scale_rewards) of TRL -> our variant.
_VARIANTS = {
    ("grpo", 0.2, 0.2, "token", "group"): "grpo",
    ("dr_grpo", 0.2, 0.2, "token", "none"): "dr_grpo",
    ("dapo", 0.2, 0.28, "token", "group"): "dapo",
    ("dapo", 0.2, 0.2, "token", "group"): "ppo",
    ("grpo", 3e-4, 4e-4, "sequence", "group"): "gspo",
    ("cispo", 1.0, 5.0, "token", "group"): "cispo",
}


def reward_functions(rules: Rules, key: str) -> None:
    """Names as file.py:function; an importable path is not imported."""
    names = rules.value(key) or []
    names = [names] if isinstance(names, str) else names
    ours = [name for name in names if ".py:" in name]
    if ours:
        rules.made.put(key, "reward.functions", ours)
    if len(ours) < len(names):
        others = [name for name in names if ".py:" not in name]
        rules.leave(key, f"{others!r}: name functions as file.py:function under [reward] functions")
