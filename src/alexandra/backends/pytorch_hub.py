"""A transformers causal model behind the Model protocol, whole or with LoRA adapters of PEFT, in this process.

HubModule is a ForeignModule over (tokens, segments): training, resume and checks are those of any torch module, and
only what is trained counts as its weights. Beside it: log-probabilities of given tokens, sampling with the model's own
cache of keys and values, and folders that transformers and PEFT load. Nothing is unpickled, no code of a model runs.

Suffixes: B rows, T positions, V vocabulary.
"""

from __future__ import annotations

import inspect
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from alexandra.backends.base import Execution
from alexandra.backends.pytorch_foreign import ForeignModule, seeded
from alexandra.backends.pytorch_precision import casting, prepare
from alexandra.backends.pytorch_run import Tensors, TorchRun, array_of, threads_of
from alexandra.errors import BackendError, StorageError, missing_extra
from alexandra.ir.graph import Node
from alexandra.objectives.spec import Program
from alexandra.rng import derive

ADAPTER = "adapter_config.json"
INPUTS = tuple(Node(name, "input", (), {"shape": ("SEQ",), "dtype": "int32"}) for name in ("tokens", "segments"))


@dataclass(frozen=True)
class Lora:
    """Adapters of `rank` on every linear layer; their difference is alpha / rank * B A."""

    rank: int
    alpha: float = 0.0

    @property
    def scale(self) -> float:
        return self.alpha or 2.0 * self.rank


@dataclass(frozen=True)
class Rule:
    """How a token is chosen (train/lm/sampling.Sampling says what the fields mean)."""

    max_tokens: int
    temperature: float
    top_k: int
    top_p: float
    stop: tuple[int, ...]


class HubModule(ForeignModule):
    """`model` is a transformers causal model, or one for sequence classification with one label: a score a position."""

    def __init__(self, model: Any, threads: int = 1, execution: Execution | None = None) -> None:
        chosen = execution or Execution()
        super().__init__(_Called(model, chosen.precision), INPUTS, {"logits": "linear"}, "", threads)
        self.model, self.precision = model, chosen.precision
        prepare(model, chosen.precision, self.device)
        if chosen.checkpoint:
            _checkpointed(_inner(model))
        inner = _inner(model)
        self.words = f"the transformers model {type(inner).__name__}"
        self.vocab = int(inner.get_input_embeddings().num_embeddings)
        keeps = "logits_to_keep" in inspect.signature(inner.forward).parameters
        self._last: dict[str, int] = {"logits_to_keep": 1} if keeps else {}

    @property
    def is_adapted(self) -> bool:
        """Whether LoRA adapters are what is trained."""
        return hasattr(self.model, "peft_config")

    def logps(self, tokens_BT: np.ndarray, segments_BT: np.ndarray, targets_BT: np.ndarray) -> np.ndarray:
        """ln p(target) of every position, float64."""
        given = [torch.tensor(array, device=self.device) for array in (tokens_BT, segments_BT, targets_BT)]
        with torch.inference_mode(), threads_of(self.threads), self._mode(training=False):
            logits = self.module(*given[:2]).float()
            picked = logits.gather(-1, given[2].long()[..., None])[..., 0]
            return array_of(picked.double() - torch.logsumexp(logits.double(), -1))

    def next_logits(self, rows: Sequence[Sequence[int]]) -> np.ndarray:
        """Logits of the token after each row, float64 [B, V]."""
        tokens, seen = self._left_padded(rows)
        with torch.inference_mode(), threads_of(self.threads), self._mode(training=False):
            return array_of(self._ahead(tokens, seen, None)[0].double())

    def sample(
        self, prompts: Sequence[Sequence[int]], rule: Rule, uniform_BT: np.ndarray
    ) -> list[tuple[list[int], list[float]]]:
        """Tokens after each prompt, and ln p of each at temperature 1; uniform_BT[i, t] decides token t of row i."""
        tokens, seen = self._left_padded(prompts)
        found: list[tuple[list[int], list[float]]] = [([], []) for _ in prompts]
        live = np.ones(len(prompts), bool)
        words, cache = torch.tensor(uniform_BT, device=self.device), None
        with torch.inference_mode(), threads_of(self.threads), self._mode(training=False):
            for t in range(rule.max_tokens):
                logits, cache = self._ahead(tokens, seen, cache)
                chosen, logps = drawn(logits.double(), rule, words[:, t])
                for row in np.flatnonzero(live).tolist():
                    found[row][0].append(int(chosen[row]))
                    found[row][1].append(float(logps[row]))
                    live[row] = int(chosen[row]) not in rule.stop
                if not live.any():
                    break
                tokens, seen = chosen[:, None], torch.cat([seen, torch.ones_like(seen[:, :1])], dim=1)
        return found

    def save(self, folder: Path, files: Mapping[str, bytes], *, merged: bool = False) -> None:
        """A new folder for transformers; of adapters alone one for PEFT, unless they are to be `merged`. `files` (a
        tokenizer's) are put beside."""
        if folder.exists():
            raise StorageError(f"{str(folder)!r} exists already")
        staged = folder.with_name(f".{folder.name}.{os.getpid()}.part")
        shutil.rmtree(staged, ignore_errors=True)
        model = _merged_copy(self.model) if merged and self.is_adapted else self.model
        model.save_pretrained(staged)
        for name, data in files.items():
            (staged / name).write_bytes(data)
        for path in staged.iterdir():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        staged.rename(folder)

    def merge_gap(self, tokens_BT: np.ndarray) -> float:
        """The largest difference of a logit between adapters beside the weights and merged into them."""
        tokens = torch.tensor(tokens_BT, device=self.device)
        segments = torch.ones_like(tokens)
        with torch.inference_mode(), threads_of(self.threads), self._mode(training=False):
            beside = self.module(tokens, segments)
            merged = _Called(_merged_copy(self.model), "float32").eval()
            return float((beside - merged(tokens, segments)).abs().max())

    def start(self, program: Program, inputs: Mapping[str, Any], targets: Any, validation: Any = None) -> TorchRun:
        run = super().start(program, inputs, targets, validation)
        return run.scaled() if self.precision == "fp16" else run

    def _floating(self) -> Tensors:
        return self._trainable()

    def _left_padded(self, rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        width = max(len(row) for row in rows)
        tokens, seen = np.zeros((len(rows), width), np.int64), np.zeros((len(rows), width), np.int64)
        for i, row in enumerate(rows):
            tokens[i, width - len(row) :], seen[i, width - len(row) :] = row, 1
        return torch.tensor(tokens, device=self.device), torch.tensor(seen, device=self.device)

    def _ahead(self, tokens: Tensor, seen: Tensor, cache: Any) -> tuple[Tensor, Any]:
        """Logits after the last of `tokens`, which follow what is in the cache; `seen` marks all that is no padding."""
        positions = (seen.cumsum(-1) - 1).clamp(min=0)[:, -tokens.shape[1] :]
        given = {"attention_mask": seen, "position_ids": positions, "past_key_values": cache}
        with casting(self.precision, self.device):
            found = self.model(input_ids=tokens, **given, use_cache=True, **self._last)
        return found.logits[:, -1].float(), found.past_key_values


class _Called(nn.Module):
    """The model as a function of tokens and segments, without a cache; float32 whatever it computes in."""

    def __init__(self, model: Any, precision: str) -> None:
        super().__init__()
        self.model, self._precision = model, precision
        self._scores = hasattr(_inner(model), "score")

    def forward(self, tokens: Tensor, segments: Tensor) -> Tensor:
        with casting(self._precision, tokens.device):
            return self._called(tokens, segments).float()

    def _called(self, tokens: Tensor, segments: Tensor) -> Tensor:
        given: dict[str, Any] = {"input_ids": tokens.long(), "use_cache": False}
        ended = (segments == 0).cumsum(-1) > 0
        if not bool(((segments == 1) | ended).all()):
            given |= _apart(segments, next(self.model.parameters()).dtype)
        if not self._scores:
            return self.model(**given).logits  # type: ignore[no-any-return]
        inner = _inner(self.model)
        return inner.score(inner.base_model(**given).last_hidden_state)  # type: ignore[no-any-return]


def _apart(segments: Tensor, dtype: torch.dtype) -> dict[str, Tensor]:
    """Documents side by side: each sees itself alone, and its positions begin at 0."""
    width = segments.shape[1]
    index = torch.arange(width, device=segments.device)
    begins = torch.ones_like(segments, dtype=torch.bool)
    begins[:, 1:] = segments[:, 1:] != segments[:, :-1]
    first = torch.where(begins, index, 0).cummax(-1).values
    allowed = (segments[:, :, None] == segments[:, None, :]) & (index[:, None] >= index[None, :])
    mask = torch.zeros(allowed.shape, dtype=dtype, device=segments.device).masked_fill(~allowed, torch.finfo(dtype).min)
    return {"attention_mask": mask[:, None], "position_ids": index - first}


def drawn(logits_BV: Tensor, rule: Rule, uniform_B: Tensor) -> tuple[Tensor, Tensor]:
    """A token a row by the inverse cumulative distribution (train/lm/sampling.draw), and ln p at temperature 1."""
    logp_BV = torch.log_softmax(logits_BV, -1)
    if rule.temperature == 0:
        chosen = logits_BV.argmax(-1)
        return chosen, logp_BV.gather(-1, chosen[:, None])[:, 0]
    p_BV = torch.softmax(logits_BV / rule.temperature, -1)
    order = None
    if rule.top_k or rule.top_p < 1:
        p_BV, order = p_BV.sort(dim=-1, descending=True, stable=True)
        if rule.top_k:
            p_BV[:, rule.top_k :] = 0.0
        mass = p_BV.cumsum(-1)
        p_BV = p_BV.masked_fill(mass - p_BV >= rule.top_p * mass[:, -1:], 0.0)
    edges = p_BV.cumsum(-1)
    last = (p_BV > 0).long().mul(torch.arange(p_BV.shape[-1], device=p_BV.device)).amax(-1)
    place = torch.minimum((edges <= (uniform_B * edges[:, -1])[:, None]).sum(-1), last)
    chosen = place if order is None else order.gather(-1, place[:, None])[:, 0]
    return chosen, logp_BV.gather(-1, chosen[:, None])[:, 0]


def load(
    folder: Path,
    *,
    lora: Lora | None,
    seed: int,
    threads: int = 1,
    scores: bool = False,
    execution: Execution | None = None,
) -> HubModule:
    """A transformers folder, or PEFT's with the base that it names; `scores`: one number a position, at first 0.

    With `lora` adapters are trained and nothing else: new ones, or those of a PEFT folder when their rank is the same.
    """
    transformers = _library("transformers")
    adapted = (folder / ADAPTER).exists()
    maker = transformers.AutoModelForSequenceClassification if scores else transformers.AutoModelForCausalLM
    extra: dict[str, Any] = {"num_labels": 1} if scores else {}
    base = _base_of(folder) if adapted else folder
    with seeded(derive(seed, "head").integer(), torch.device("cpu")):
        try:
            model = maker.from_pretrained(
                str(base), dtype=torch.float32, use_safetensors=True, trust_remote_code=False, **extra
            )
        except (OSError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise BackendError(f"transformers cannot load {str(base)!r}: {reason}") from error
    if scores:
        if not hasattr(model, "score"):
            raise BackendError(f"{type(model).__name__} has no head that scores positions")
        nn.init.zeros_(model.score.weight)
    with seeded(derive(seed, "lora").integer(), torch.device("cpu")):
        model = _with_adapters(model, folder if adapted else None, lora, scores)
    return HubModule(model.to("cuda" if torch.cuda.is_available() else "cpu"), threads, execution)


def _with_adapters(model: Any, folder: Path | None, lora: Lora | None, scores: bool) -> Any:
    if folder is None and lora is None:
        return model
    peft = _library("peft")
    if folder is not None:
        model = peft.PeftModel.from_pretrained(model, str(folder), is_trainable=lora is not None)
        rank = int(model.peft_config["default"].r)
        if lora is None:
            model = model.merge_and_unload()
            model.requires_grad_(True)
        elif rank != lora.rank:
            raise BackendError(
                f"the adapters in {str(folder)!r} have rank {rank}, lora asks for {lora.rank}", hint=f"lora = {rank}"
            )
        return model
    assert lora is not None
    kind = "SEQ_CLS" if scores else "CAUSAL_LM"
    settings = peft.LoraConfig(
        task_type=kind, r=lora.rank, lora_alpha=lora.scale, target_modules="all-linear", lora_dropout=0.0
    )
    return peft.get_peft_model(model, settings)


def _checkpointed(model: Any) -> None:
    """Forget values inside blocks and compute them again."""
    if not getattr(model, "supports_gradient_checkpointing", False):
        raise BackendError(
            f"transformers has no activation checkpointing for {type(model).__name__}",
            hint="lower [train] micro to save memory",
        )
    newer = getattr(model, "activation_checkpointing_enable", None)  # the name since transformers 5
    (newer or model.gradient_checkpointing_enable)({"use_reentrant": False})


def _base_of(folder: Path) -> Path:
    import json

    named = json.loads((folder / ADAPTER).read_text(encoding="utf-8")).get("base_model_name_or_path")
    if not named or not Path(str(named)).is_dir():
        raise BackendError(
            f"the adapters in {str(folder)!r} belong on {named!r}, which is no folder here",
            hint="write its place into adapter_config.json: base_model_name_or_path",
        )
    return Path(str(named))


def _inner(model: Any) -> Any:
    return model.get_base_model() if hasattr(model, "peft_config") else model


def _merged_copy(model: Any) -> Any:
    """The model with its adapters merged; the one that is trained stays as it is."""
    from copy import deepcopy

    return deepcopy(model).merge_and_unload()


def _library(name: str) -> Any:
    from importlib import import_module

    try:
        return import_module(name)
    except ImportError:
        raise missing_extra(f"a model of {name}", "hf") from None
