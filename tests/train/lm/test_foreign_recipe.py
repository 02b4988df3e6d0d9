"""Files of TRL and Axolotl become recipes: every key is in one of three lists, the recipe says the same."""

import json
from pathlib import Path

import pytest

from alexandra.api import training
from alexandra.config import parse_config
from alexandra.errors import ConfigError, NotFoundError
from alexandra.train.lm.foreign_recipe import translate
from alexandra.train.lm.recipe import Recipe
from alexandra.train.lm.translation import Translation, flat

TRL_SFT = """
model_name_or_path: Qwen/Qwen2.5-0.5B
dataset_name: rows.jsonl
learning_rate: 2.0e-4
num_train_epochs: 2
per_device_train_batch_size: 4
gradient_accumulation_steps: 8
lr_scheduler_type: cosine
warmup_ratio: 0.1
max_length: 512
packing: true
gradient_checkpointing: true
report_to: none
save_steps: 25
eval_steps: 0.5
use_peft: true
lora_r: 8
lora_alpha: 64
output_dir: out
"""
TRL_GRPO = """
model_name_or_path: net.nl
max_steps: 30
per_device_train_batch_size: 32
num_generations: 8
max_completion_length: 64
beta: 0.04
temperature: 0.9
loss_type: dr_grpo
scale_rewards: none
reward_funcs: ["rewards.py:exact", accuracy_reward]
reward_weights: [1.0, 0.5]
lr_scheduler_type: constant_with_warmup
"""
AXOLOTL = """
base_model: NousResearch/Llama-3.2-1B
load_in_8bit: false
strict: false
datasets:
  - path: rows.jsonl
    type: chat_template
    split: train
val_set_size: 0.05
output_dir: ./outputs/lora-out
adapter: lora
lora_r: 16
lora_alpha: 32
lora_dropout: 0.05
lora_target_linear: true
sequence_len: 2048
sample_packing: true
pad_to_sequence_len: true
gradient_accumulation_steps: 2
micro_batch_size: 2
num_epochs: 3
optimizer: adamw_bnb_8bit
lr_scheduler: cosine
learning_rate: 2e-4
bf16: auto
tf32: false
gradient_checkpointing: true
flash_attention: true
warmup_ratio: 0.1
evals_per_epoch: 4
saves_per_epoch: 1
weight_decay: 0.0
wandb_project:
special_tokens:
  pad_token: "<|end_of_text|>"
"""


def made(folder: Path, text: str, name: str = "config.yaml", stage: str = "", rows: int = 100) -> Translation:
    pytest.importorskip("yaml")
    (folder / name).write_text(text)
    (folder / "rows.jsonl").write_text('{"prompt": "a", "completion": "b"}\n' * rows)
    return translate(folder / name, stage)


def recipe(found: Translation) -> Recipe:
    return parse_config(found.toml(), Recipe)


def accounted(found: Translation, text: str) -> None:
    """Every key that says something is in exactly one list."""
    yaml = pytest.importorskip("yaml")
    keys = {key for key, value in flat(yaml.safe_load(text)).items() if value is not None}
    listed = [*found.taken, *found.no_effect, *found.left]
    assert keys <= set(listed), keys - set(listed)
    assert not set(found.no_effect) & set(found.left) and not set(found.taken) & set(found.no_effect)


def test_a_trl_sft_file_becomes_the_recipe_that_it_describes(tmp_path: Path) -> None:
    found = made(tmp_path, TRL_SFT)
    one = recipe(found)
    accounted(found, TRL_SFT)
    assert (one.stage, one.model.path, one.model.lora) == ("sft", "Qwen/Qwen2.5-0.5B", 8)
    train = one.train
    assert (train.batch, train.micro, train.lr, train.pack) == (32, 4, 2e-4, True)
    assert train.steps == 8  # 100 rows are 4 updates of 32, twice
    assert (train.warmup, train.schedule, train.final, train.weight_decay) == (1, "cosine", 0.0, 0.0)
    assert (train.beta1, train.beta2, train.clip) == (0.9, 0.999, 1.0)
    assert (train.save_every, train.eval_every) == (25, 4)
    assert one.data.length == 511 and one.data.held_out == 0.0 and one.seed == 42
    assert set(found.left) == {"lora_alpha"}
    assert train.activation_checkpointing and train.precision == "float32"


@pytest.mark.parametrize(("key", "precision"), [("bf16", "bf16"), ("fp16", "fp16"), ("tf32", "float32")])
def test_the_precision_of_a_file_is_taken_over(key: str, precision: str, tmp_path: Path) -> None:
    found = made(tmp_path, f"{TRL_SFT}{key}: true\nfp8: false\n")
    assert recipe(found).train.precision == precision
    assert found.no_effect["fp8"] == "it is off" and (key in found.taken) == (precision != "float32")


def test_a_trl_grpo_file_counts_answers_and_names_its_variant(tmp_path: Path) -> None:
    found = made(tmp_path, TRL_GRPO)
    one = recipe(found)
    accounted(found, TRL_GRPO)
    rollout = one.rollout
    assert (one.stage, rollout.prompts, rollout.group, rollout.max_tokens) == ("grpo", 4, 8, 64)
    assert (rollout.variant, rollout.kl, rollout.temperature) == ("dr_grpo", 0.04, 0.9)
    assert one.train.lr == 1e-6 and one.train.steps == 30 and one.train.schedule == "constant"
    assert one.reward.functions == ("rewards.py:exact",) and one.reward.weights == (1.0, 0.5)
    assert "accuracy_reward" in found.left["reward_funcs"]


def test_what_no_variant_says_is_left_and_not_guessed(tmp_path: Path) -> None:
    found = made(tmp_path, TRL_GRPO.replace("dr_grpo", "vespo"))
    assert recipe(found).rollout.variant == "grpo"
    assert "no variant" in found.left["loss_type"] and "no variant" in found.left["scale_rewards"]
    plain = made(tmp_path, TRL_GRPO.replace("loss_type: dr_grpo", "").replace("scale_rewards: none", ""))
    assert recipe(plain).rollout.variant == "ppo"  # TRL's default: token mean, clipped at 0.2 on both sides


def test_defaults_are_those_of_the_other_tool(tmp_path: Path) -> None:
    found = made(tmp_path, "model_name_or_path: net.nl\nmax_steps: 5\n", "dpo.yaml")
    one = recipe(found)
    assert (one.stage, one.train.lr, one.train.batch, one.data.length) == ("dpo", 1e-6, 8, 1023)
    assert (one.train.warmup, one.train.schedule, one.train.final) == (0, "linear", 0.0)
    assert "lr_scheduler_type" not in found.left
    other = made(tmp_path, "model_name_or_path: net.nl\nmax_steps: 5\nlr_scheduler_type: polynomial\n", "sft.yaml")
    assert recipe(other).train.schedule == "cosine" and "polynomial" in other.left["lr_scheduler_type"]
    plain = made(tmp_path, "base_model: net.nl\nmax_steps: 5\nlearning_rate: 0.1\n")
    assert (recipe(plain).stage, recipe(plain).train.batch, recipe(plain).data.length) == ("sft", 1, 511)
    assert plain.left == {}


def test_an_axolotl_file_becomes_the_recipe_that_it_describes(tmp_path: Path) -> None:
    found = made(tmp_path, AXOLOTL)
    one = recipe(found)
    accounted(found, AXOLOTL)
    assert (one.stage, one.model.lora, one.data.path, one.data.split) == ("sft", 16, "rows.jsonl", "train")
    train = one.train
    assert (train.batch, train.micro, train.lr, train.optimizer, train.pack) == (4, 2, 2e-4, "adamw", True)
    assert train.steps == 72  # 95 rows are 24 updates of 4, three times
    assert (train.warmup, train.save_every, train.eval_every) == (8, 24, 6)
    assert one.data.held_out == 0.05 and one.data.length == 2047
    assert set(found.left) == {
        "lora_alpha", "lora_dropout", "lora_target_linear", "optimizer", "special_tokens.pad_token",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("lines", "stage", "check"),
    [
        ("rl: dpo\nrl_beta: 0.2\ndpo_label_smoothing: 0.1", "dpo", {"beta": 0.2, "label_smoothing": 0.1}),
        ("rl: ipo", "dpo", {"loss": "ipo"}),
        ("rl: simpo\nsimpo_gamma: 0.5\nrl_beta: 2.0", "dpo", {"length_normalized": True, "simpo_margin": 0.5}),
        ("rl: kto\nkto_undesirable_weight: 0.3", "kto", {"undesirable_weight": 0.3}),
        ("reward_model: true", "reward", {}),
    ],
)
def test_axolotls_rl_names_the_stage(lines: str, stage: str, check: dict[str, object], tmp_path: Path) -> None:
    found = made(tmp_path, f"base_model: net.nl\nlearning_rate: 1e-5\nmax_steps: 9\n{lines}\n")
    one = recipe(found)
    assert one.stage == stage and found.left == {}
    section = getattr(one, stage, None)
    assert all(getattr(section, name) == value for name, value in check.items())


def test_axolotls_grpo_section_is_read(tmp_path: Path) -> None:
    text = """base_model: net.nl
learning_rate: 1e-5
rl: grpo
micro_batch_size: 16
max_steps: 10
trl:
  beta: 0.001
  num_generations: 4
  max_completion_length: 20
  loss_type: grpo
  reward_funcs: [rewards.py:exact]
  use_vllm: true
  rollout_func: mine.f
"""
    found = made(tmp_path, text)
    one = recipe(found)
    accounted(found, text)
    assert (one.rollout.group, one.rollout.prompts, one.rollout.kl, one.rollout.max_tokens) == (4, 4, 0.001, 20)
    assert one.reward.functions == ("rewards.py:exact",) and one.rollout.variant == "grpo"
    assert set(found.left) == {"trl.rollout_func"}


def test_unknown_keys_and_several_data_sets_are_listed_in_the_recipe_itself(tmp_path: Path) -> None:
    text = AXOLOTL + "relora: true\n"
    text = text.replace("    split: train\n", "    split: train\n  - path: more.jsonl\n")
    found = made(tmp_path, text)
    assert "relora" in found.left and "[[data.sources]]" in found.left["datasets[1].path"]
    assert "# Not taken over: relora: True is not known here" in found.toml()


def test_a_dumped_configuration_needs_its_stage_where_nothing_shows_it(tmp_path: Path) -> None:
    (tmp_path / "args.json").write_text(json.dumps({"learning_rate": 1e-5, "max_steps": 3, "foo": None}))
    with pytest.raises(ConfigError, match="no configuration of TRL"):
        translate(tmp_path / "args.json")
    found = translate(tmp_path / "args.json", "sft")
    assert found.recipe["stage"] == "sft" and "foo" not in found.left
    (tmp_path / "plain.json").write_text(json.dumps({"model_name_or_path": "net.nl"}))
    with pytest.raises(ConfigError, match="which trainer"):
        translate(tmp_path / "plain.json")


def test_files_that_are_no_plain_data_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("yaml")
    (tmp_path / "a.yaml").write_text("base_model: !!python/object/apply:os.system ['touch pwned']\n")
    with pytest.raises(ConfigError, match="not plain YAML"):
        translate(tmp_path / "a.yaml")
    assert not (tmp_path / "pwned").exists()
    for name, text in (("b.yaml", "- 1\n"), ("c.json", "{"), ("d.json", "[1]")):
        (tmp_path / name).write_text(text)
        with pytest.raises(ConfigError):
            translate(tmp_path / name)
    with pytest.raises(NotFoundError):
        translate(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="'gdpo' has no stage"):
        made(tmp_path, "base_model: x\nrl: gdpo\n")


NET = """LAYER INPUT name=tokens shape=(SEQ) dtype=int32
LAYER EMBEDDING name=e vocab=AUTO size=8
LAYER DENSE name=h size=16 activation=tanh
LAYER OUTPUT name=y size=AUTO
CONNECT tokens -> e -> h -> y
"""
DIRECT = {
    "trl": ("model_name_or_path: net.nl\ndataset_name: rows.jsonl\nlearning_rate: 0.01\n", "sft.yaml"),
    "axolotl": ("base_model: net.nl\ndatasets:\n  - path: rows.jsonl\nlearning_rate: 0.01\nrelora: true\n", "a.yml"),
}


@pytest.mark.parametrize("tool", list(DIRECT))
def test_train_and_doctor_read_the_file_itself(tool: str, tmp_path: Path) -> None:
    text, name = DIRECT[tool]
    made(tmp_path, f"{text}max_steps: 3\n", name)
    (tmp_path / "net.nl").write_text(NET)
    rows = [{"prompt": a, "completion": b} for a in "abcd" for b in "abcd"]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    request = training.Request(str(tmp_path / name), runs=tmp_path / "runs")
    if tool == "axolotl":
        with pytest.warns(UserWarning, match="not taken over: relora"):
            (done,) = training.train(request)
    else:
        (done,) = training.train(request)
    assert done.result.steps == 3 and done.model is not None and done.recipe.train.lr == 0.01
    assert done.recipe.train.schedule == {"trl": "linear", "axolotl": "cosine"}[tool]
    found = training.doctor(request)
    assert [one.where for one in found.findings if one.check == "recipe"] == ["relora"] * (tool == "axolotl")
    assert {"mask", "split", "resume"} <= set(found.passed)
