"""A small encoder of `transformers`, fine-tuned to say how likely a claim is right: what scorers are made of.

`fine_tune` takes a hub id or a folder of any family that has a sequence classifier (T5, BERT and mBERT, RoBERTa,
DeBERTa, ALBERT, Longformer); `small` writes such a folder with random weights and a tokenizer learnt from the texts,
for where no pretrained weights are at hand. Exporting and measuring are `api.verify_scorer`'s. Needs the extras `torch`
and `hf`.
"""

from __future__ import annotations

import contextlib
import copy
import importlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from alexandra.config import Config
from alexandra.errors import VerifierError, missing_extra, suggest
from alexandra.rng import derive
from alexandra.storage import content_hash
from alexandra.verifiers.scorers.ngrams import SEPARATOR

SPECIAL = ("<pad>", "<s>", "</s>", "<unk>")
PAD, BEGIN, END, UNKNOWN = range(4)
FAMILIES = ("t5", "bert", "roberta", "deberta-v2", "albert", "longformer")


Tell = Callable[[str, int, int], None]


class Recipe(Config):
    """How it is fine-tuned. `learning_rate` rises over the first tenth of the steps and falls to zero.

    `max_length` is in tokens; a longer text is cut.
    """

    epochs: int = Field(default=3, ge=1)
    batch_size: int = Field(default=32, ge=1)
    learning_rate: float = Field(default=5e-5, gt=0)
    weight_decay: float = Field(default=0.01, ge=0)
    max_length: int = Field(default=256, ge=8)
    clip: float = Field(default=1.0, gt=0)
    seed: int = Field(default=0, ge=0)


@dataclass(frozen=True)
class Size:
    """A network of one's own; `length` is the longest text in tokens, a multiple of `window` (Longformer's)."""

    hidden: int = 64
    layers: int = 2
    heads: int = 4
    length: int = 128
    vocabulary: int = 4000
    window: int = 16


@dataclass(frozen=True)
class Parts:
    """Rows to learn from, to stop and calibrate by, and to measure on: all claims about one prompt lie in one part."""

    fit: np.ndarray
    hold: np.ndarray
    test: np.ndarray


@dataclass(frozen=True)
class FineTuned:
    """The folder that was written, and each epoch's mean loss on the held rows; the best epoch's weights are kept."""

    path: Path
    losses: tuple[float, ...] = field(default_factory=tuple)


def split(texts: Sequence[str]) -> Parts:
    """70 % to fit, 10 % to hold, 20 % to test, by the hash of each text's prompt."""
    heads = [text.partition(SEPARATOR)[0] for text in texts]
    places = np.array([int(content_hash(head.encode("utf-8", "replace"))[:8], 16) / 2**32 for head in heads])
    chosen = (places < 0.7, (places >= 0.7) & (places < 0.8), places >= 0.8)
    return Parts(*(np.flatnonzero(part) for part in chosen))


def pairs(texts: Sequence[str]) -> list[Any]:
    """What a tokenizer takes: (prompt, answer) where a text has both."""
    return [tuple(text.split(SEPARATOR, 1)) if SEPARATOR in text else text for text in texts]


def fine_tune(
    model: str | Path, out: str | Path, texts: Sequence[str], labels: Sequence[int],
    recipe: Recipe | None = None, tell: Tell | None = None,
) -> FineTuned:
    """Fine-tune the classifier in `model` and write it to the folder `out`; label 1 means that a claim is right.

    `tell` hears of every step: the loss so far, the step's number, of how many.
    """  # fmt: skip
    torch, transformers = _libraries()
    recipe, truth, parts = recipe or Recipe(), np.asarray(labels, dtype=np.int64), split(texts)
    if len(truth) != len(texts) or len(set(truth.tolist())) != 2 or not len(parts.fit) or not len(parts.hold):
        words = f"{len(texts)} texts and {len(truth)} labels of {len(set(truth.tolist()))} kinds"
        raise VerifierError(words, hint="give a label a text, texts of both labels and 20 prompts or more")
    with _seeded(torch, recipe.seed):
        config = transformers.AutoConfig.from_pretrained(str(model), num_labels=2)
        if config.model_type not in FAMILIES:
            raise VerifierError(f"{str(model)!r} is a {config.model_type!r}", hint=suggest(config.model_type, FAMILIES))
        network = transformers.AutoModelForSequenceClassification.from_pretrained(
            str(model), config=config, use_safetensors=True
        )
        tokenizer = transformers.AutoTokenizer.from_pretrained(str(model), use_fast=True)
        read = _Reader(tokenizer, pairs(texts), truth, recipe.max_length)
        losses = _trained(torch, network, read, parts, recipe, tell)
    network.save_pretrained(str(out))
    tokenizer.save_pretrained(str(out))
    return FineTuned(Path(out), losses)


def _libraries() -> tuple[Any, Any]:
    """torch and transformers, imported when they are needed."""
    try:
        torch = importlib.import_module("torch")
    except ImportError:
        raise missing_extra("a fine-tuned scorer", "torch") from None
    try:
        return torch, importlib.import_module("transformers")
    except ImportError:
        raise missing_extra("a fine-tuned scorer", "hf") from None


@contextlib.contextmanager
def _seeded(torch: Any, seed: int) -> Iterator[None]:
    """Torch's own generator, for new heads and dropout, set by the path and put back afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(derive(seed, "train", "scorer").words(1)[0]))
        yield


class _Reader:
    """Rows as tensors: ids, mask, labels, padded to the longest of the batch."""

    def __init__(self, tokenizer: Any, texts: list[Any], truth: np.ndarray, max_length: int) -> None:
        backend = tokenizer.backend_tokenizer
        backend.no_padding()
        backend.enable_truncation(max_length)
        self.ids = [one.ids for one in backend.encode_batch(texts)]
        self.truth, self.pad = truth, tokenizer.pad_token_id

    def batch(self, torch: Any, rows: np.ndarray) -> tuple[Any, Any, Any]:
        longest = max(len(self.ids[row]) for row in rows)
        ids = np.full((len(rows), longest), self.pad, dtype=np.int64)
        for place, row in enumerate(rows):
            ids[place, : len(self.ids[row])] = self.ids[row]
        lengths = np.array([len(self.ids[row]) for row in rows])
        mask = (np.arange(longest) < lengths[:, None]).astype(np.int64)
        return torch.from_numpy(ids), torch.from_numpy(mask), torch.from_numpy(self.truth[rows])


def _trained(
    torch: Any, network: Any, read: _Reader, parts: Parts, recipe: Recipe, tell: Tell | None
) -> tuple[float, ...]:
    """Train in place, keep the weights of the best epoch; returns the held loss of each."""
    steps = -(-len(parts.fit) // recipe.batch_size)
    total, warm = recipe.epochs * steps, max(1, recipe.epochs * steps // 10)
    optimiser = torch.optim.AdamW(network.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay)
    rate = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min((step + 1) / warm, (total - step) / max(1, total - warm))
    )
    losses: list[float] = []
    kept = copy.deepcopy(network.state_dict())
    for epoch in range(recipe.epochs):
        network.train()
        order = parts.fit[derive(recipe.seed, "train", "scorer", str(epoch)).permutation(len(parts.fit))]
        for start in range(0, len(order), recipe.batch_size):
            ids, mask, truth = read.batch(torch, order[start : start + recipe.batch_size])
            loss = torch.nn.functional.cross_entropy(network(input_ids=ids, attention_mask=mask).logits, truth)
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), recipe.clip)
            optimiser.step()
            rate.step()
            if tell is not None:
                held = f", held loss {losses[-1]:.3f}" if losses else ""
                tell(f"loss {loss.item():.3f}{held}", epoch * steps + start // recipe.batch_size + 1, total)
        losses.append(_held_loss(torch, network, read, parts.hold, recipe.batch_size))
        if losses[-1] == min(losses):
            kept = copy.deepcopy(network.state_dict())
    network.load_state_dict(kept)
    return tuple(losses)


def _held_loss(torch: Any, network: Any, read: _Reader, rows: np.ndarray, size: int) -> float:
    network.eval()
    total = 0.0
    with torch.no_grad():
        for start in range(0, len(rows), size):
            ids, mask, truth = read.batch(torch, rows[start : start + size])
            logits = network(input_ids=ids, attention_mask=mask).logits
            total += float(torch.nn.functional.cross_entropy(logits, truth, reduction="sum"))
    return total / len(rows)


def small(family: str, texts: Sequence[str], out: str | Path, size: Size | None = None, seed: int = 0) -> Path:
    """A folder with a small network of a family, random weights and a tokenizer learnt from `texts` (byte pairs)."""
    torch, transformers = _libraries()
    if family not in FAMILIES:
        raise VerifierError(f"unknown family {family!r}", hint=suggest(family, FAMILIES))
    size = size or Size()
    words = transformers.PreTrainedTokenizerFast(
        tokenizer_object=_tokenizer(texts, size.vocabulary), pad_token=SPECIAL[PAD], bos_token=SPECIAL[BEGIN],
        eos_token=SPECIAL[END], unk_token=SPECIAL[UNKNOWN],
    )  # fmt: skip
    config = transformers.AutoConfig.for_model(
        family, vocab_size=len(words), num_labels=2, pad_token_id=PAD, bos_token_id=BEGIN, eos_token_id=END,
        **_shape(family, size),
    )  # fmt: skip
    with _seeded(torch, seed):
        network = transformers.AutoModelForSequenceClassification.from_config(config)
    network.save_pretrained(str(out))
    words.save_pretrained(str(out))
    return Path(out)


def _shape(family: str, size: Size) -> dict[str, Any]:
    if family == "t5":
        return {
            "d_model": size.hidden, "d_kv": size.hidden // size.heads, "d_ff": 2 * size.hidden,
            "num_layers": size.layers, "num_heads": size.heads, "decoder_start_token_id": PAD,
        }  # fmt: skip
    own: dict[str, dict[str, Any]] = {
        "albert": {"embedding_size": size.hidden // 2},
        "deberta-v2": {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
        "longformer": {"attention_window": [size.window] * size.layers, "sep_token_id": END},
    }
    return {
        "hidden_size": size.hidden, "num_hidden_layers": size.layers, "num_attention_heads": size.heads,
        "intermediate_size": 2 * size.hidden, "max_position_embeddings": size.length + 8, **own.get(family, {}),
    }  # fmt: skip


def _tokenizer(texts: Sequence[str], vocabulary: int) -> Any:
    """Byte pairs over lower-cased words; one end mark a text, also when it is a pair."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

    made = Tokenizer(models.BPE(unk_token=SPECIAL[UNKNOWN]))
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.BpeTrainer(vocab_size=vocabulary, special_tokens=list(SPECIAL), show_progress=False)
    made.train_from_iterator([text.replace(SEPARATOR, " ") for text in texts], trainer)
    made.post_processor = processors.TemplateProcessing(
        "<s> $A </s>", "<s> $A <s> $B </s>", [("<s>", BEGIN), ("</s>", END)]
    )
    return made
