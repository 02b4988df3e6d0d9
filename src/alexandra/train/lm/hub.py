"""A transformers causal model as a policy: the same updates as a network's, its own cache for sampling.

What runs it is backends/pytorch_hub.py, which loads with torch when a recipe names such a model. Weights that are not
trained (below LoRA adapters) are in no checkpoint: they are those of the folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from alexandra.backends.base import Execution
from alexandra.backends.foreign import Foreign
from alexandra.backends.huggingface import CARRIED, load, local_folder
from alexandra.errors import missing_extra
from alexandra.objectives.tokens import F64
from alexandra.rng import Stream
from alexandra.train.lm.batch import TokenBatch
from alexandra.train.lm.fed import Optimization
from alexandra.train.lm.folder import ModelFolder
from alexandra.train.lm.policy import FedPolicy, fed_run
from alexandra.train.lm.sampling import Completion, Sampling, check_prompts
from alexandra.train.lm.tokenizer import Tokenizer, load_tokenizer

INSIDE = "alexandra.backends.pytorch_hub"
CONFIGS = ("config.json", "adapter_config.json")
ROWS = 64  # sampled at once


@dataclass(frozen=True)
class HubFolder:
    """A transformers or PEFT folder, and how its model is trained: `lora` is the adapters' rank, 0 for all weights."""

    path: Path
    tokenizer: Tokenizer
    lora: int = 0
    alpha: float = 0.0

    def module(
        self, seed: int, threads: int = 1, *, scores: bool = False, execution: Execution | None = None
    ) -> Any:
        """The model in memory, a backends.pytorch_hub.HubModule."""
        hub = import_module(INSIDE)
        lora = hub.Lora(self.lora, self.alpha) if self.lora else None
        return hub.load(self.path, lora=lora, seed=seed, threads=threads, scores=scores, execution=execution)

    def files(self) -> dict[str, bytes]:
        """The tokenizer's and other small files, byte by byte."""
        return {name: (self.path / name).read_bytes() for name in CARRIED if (self.path / name).exists()}


def is_hub(path: Path, name: str) -> bool:
    """Whether a recipe's model is a folder of transformers or PEFT, or no file here but spelled like a hub id."""
    if path.is_dir():
        return any((path / config).exists() for config in CONFIGS)
    return not path.exists() and name.count("/") == 1 and not name.startswith((".", "/")) and not name.endswith(".nl")


def read_hub(path: Path, name: str, lora: int, alpha: float) -> HubFolder:
    """The folder, or the hub's model `name` downloaded. Raises NotFoundError, DataError, MissingExtraError."""
    if find_spec("torch") is None or find_spec("transformers") is None:
        raise missing_extra("a transformers model", "hf")
    folder = path if path.is_dir() else local_folder(name)
    return HubFolder(folder.resolve(), load_tokenizer(folder), lora, alpha)


def read_as_network(path: Path, name: str) -> ModelFolder:
    """A transformers model of a known family as a network of ours. BackendError for another family."""
    read = load(path if path.is_dir() else name)
    folder = path if path.is_dir() else local_folder(name)
    return ModelFolder(read.graph, read.weights, load_tokenizer(folder), str(folder))


class HubPolicy(FedPolicy):
    """A HubModule as a Policy."""

    def __init__(self, inside: Any, optimization: Optimization | None = None) -> None:
        self.inside, self.optimization = inside, optimization or Optimization()
        self.model = Foreign(inside)
        self.vocab = int(inside.vocab)
        self.updates = fed_run(self.model, self.optimization)

    def logprobs(self, batch: TokenBatch) -> F64:
        """In pieces of `micro_rows` rows."""
        rows = len(batch.tokens_BT)
        size = max(1, self.optimization.micro_rows or rows)
        parts = [slice(first, first + size) for first in range(0, rows, size)]
        pieces = [
            self.inside.logps(batch.tokens_BT[part], batch.segments_BT[part], batch.targets_BT[part]) for part in parts
        ]
        return np.where(batch.mask_BT > 0, np.concatenate(pieces), 0.0)

    def inputs(self, batch: TokenBatch) -> dict[str, np.ndarray]:
        return {"tokens": batch.tokens_BT, "segments": batch.segments_BT}

    def next_logits(self, tokens: Sequence[Sequence[int]]) -> F64:
        return np.asarray(self.inside.next_logits(tokens))


class HubSampler:
    """`complete` for a HubPolicy, ROWS prompts at a time with the model's own cache."""

    def __init__(self, policy: HubPolicy) -> None:
        self.policy = policy

    def __call__(
        self, prompts: Sequence[Sequence[int]], sampling: Sampling, streams: Sequence[Stream]
    ) -> list[Completion]:
        check_prompts(prompts)
        fields = sampling.max_tokens, sampling.temperature, sampling.top_k, sampling.top_p, sampling.stop
        rule, found = import_module(INSIDE).Rule(*fields), []
        for first in range(0, len(prompts), ROWS):
            words_BT = np.stack([stream.uniform(sampling.max_tokens) for stream in streams[first : first + ROWS]])
            for tokens, logps in self.policy.inside.sample(prompts[first : first + ROWS], rule, words_BT):
                found.append(Completion(tuple(tokens), tuple(logps), tokens[-1] in sampling.stop))
        return found
