"""What quantisation costs a decoder: float32 beside Q8_0 and Q4_0 on held-out text, with limits that it says it misses.

Teacher-forced: every model reads the same windows of tokens, and its distribution after each token is compared with
float32's. Cosine is between logits, KL is of float32's distribution from the quantised one's (natural logarithm),
perplexity is exp of the mean negative log-likelihood. llama.cpp's own loss on the same file stands beside ours where
llama-cpp-python is installed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from alexandra.backends.decode import DecoderModel, Generator, load_decoder
from alexandra.backends.gguf_export import converted, export_gguf
from alexandra.errors import UsageError, suggest

KINDS = ("Q8_0", "Q4_0", "BF16", "F16")
PEER_SHARE = 1.005  # our loss may exceed llama.cpp's on the same file by half a percent


@dataclass(frozen=True)
class Limits:
    """What a type of weights must keep: at least `cosine` and `top1`, at most `kl` and `perplexity` (a ratio)."""

    cosine: float
    kl: float
    perplexity: float
    top1: float


LIMITS: dict[str, Limits] = {
    "F16": Limits(0.9999, 0.001, 1.005, 0.99),
    "BF16": Limits(0.999, 0.01, 1.02, 0.98),
    "Q8_0": Limits(0.999, 0.01, 1.02, 0.99),
    "Q4_0": Limits(0.0, float("inf"), 1.08, 0.90),
}


@dataclass(frozen=True)
class Quality:
    """One type beside float32 over `tokens` positions. `missed` says which limits it does not keep, in words.

    `peer_loss` is llama.cpp's mean negative log-likelihood on the same file, None where it is not installed.
    """

    kind: str
    bytes: int
    tokens: int
    loss: float
    cosine: float
    kl: float
    perplexity_ratio: float
    top1: float
    peer_loss: float | None = None
    peer_top1: float | None = None
    missed: tuple[str, ...] = ()
    path: str = ""


@dataclass(frozen=True)
class QuantizeReport:
    model: str
    float_bytes: int
    float_loss: float
    float_perplexity: float
    tokens: int
    rows: tuple[Quality, ...]
    notes: tuple[str, ...] = field(default=())

    @property
    def kept(self) -> bool:
        """Whether every type keeps its limits."""
        return not any(row.missed for row in self.rows)


@dataclass(frozen=True)
class _Truth:
    """What float32 says of each window of tokens."""

    windows: list[list[int]]
    logits: list[np.ndarray]
    loss: float


def quantize_model(
    model: str | Path | DecoderModel,
    text: str | Sequence[int],
    *,
    kinds: Sequence[str] = ("Q8_0", "Q4_0"),
    out: str | Path | None = None,
    window: int = 256,
    most_tokens: int = 8192,
    peer: bool = True,
    progress: Callable[[str], None] = lambda words: None,
) -> QuantizeReport:
    """Quantise `model` (a GGUF file, a Hugging Face folder) and compare on `text` (or its tokens).

    With `out` the quantised files stay there as `<name>-<kind>.gguf`. UsageError for unknown kinds or too little text.
    """
    import tempfile

    for kind in kinds:
        if kind not in LIMITS:
            raise UsageError(f"type {kind!r} is not known", hint=suggest(kind, LIMITS))
    loaded = load_decoder(model) if isinstance(model, str | Path) else model
    windows = _windows(loaded, text, min(window, loaded.most_positions), most_tokens)
    progress(f"float32: {sum(map(len, windows))} tokens")
    base = converted(loaded, "F32")
    truth = _Truth(windows, _logits(base, windows), 0.0)
    truth = replace(truth, loss=_mean_loss(truth.logits, windows))
    name = Path(loaded.source).stem or "model"
    rows, notes = [], []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(out) if out is not None else Path(scratch)
        for kind in kinds:
            progress(kind)
            path = export_gguf(loaded, folder / f"{name}-{kind}.gguf", kind, name=name)
            peers, note = _peer(path, windows) if peer else (None, "")
            notes += [note] if note and note not in notes else []
            rows.append(_quality(kind, path, truth, peers, str(path) if out is not None else ""))
    float_bytes = sum(tensor.data.size for tensor in base.tensors.values())
    tokens = sum(len(row) - 1 for row in windows)
    perplexity = float(np.exp(truth.loss))
    return QuantizeReport(loaded.source, float_bytes, truth.loss, perplexity, tokens, tuple(rows), tuple(notes))


def _windows(model: DecoderModel, text: str | Sequence[int], window: int, most: int) -> list[list[int]]:
    if isinstance(text, str):
        if model.tokenizer is None:
            raise UsageError(f"{model.source!r} has no tokenizer that is known here", hint="give tokens")
        tokens = model.tokenizer.encode(text[: 32 * most], begin=False)
    else:
        tokens = list(text)
    tokens = tokens[:most]
    rows = [tokens[i : i + window] for i in range(0, len(tokens) - 1, window)]
    rows = [row for row in rows if len(row) == window] or [row for row in rows if len(row) > 1]
    if not rows:
        raise UsageError(f"{len(tokens)} tokens are too few to compare on", hint="give a longer text with --text")
    return rows


def _logits(model: DecoderModel, windows: Sequence[Sequence[int]]) -> list[np.ndarray]:
    generator = Generator(model, context=max(map(len, windows)))
    return [generator.logits(row) for row in windows]


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def _losses(logits: np.ndarray, tokens: Sequence[int]) -> np.ndarray:
    return np.asarray(-_log_softmax(logits)[np.arange(len(tokens) - 1), np.asarray(tokens[1:])])


def _mean_loss(logits: Sequence[np.ndarray], windows: Sequence[Sequence[int]]) -> float:
    pairs = zip(logits, windows, strict=True)
    return float(np.mean(np.concatenate([_losses(row, tokens) for row, tokens in pairs])))


def _quality(kind: str, path: Path, truth: _Truth, peers: list[np.ndarray] | None, kept: str) -> Quality:
    model = load_decoder(path)
    found = _logits(model, truth.windows)
    cosine, kl, same, agree = [], [], [], []
    for i, (a, b) in enumerate(zip(truth.logits, found, strict=True)):
        x, y = a.astype(np.float64), b.astype(np.float64)
        cosine.append((x * y).sum(axis=1) / np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1))
        p, q = _log_softmax(a), _log_softmax(b)
        kl.append((np.exp(p) * (p - q)).sum(axis=1))
        same.append(a.argmax(axis=1) == b.argmax(axis=1))
        if peers is not None:
            agree.append(peers[i].argmax(axis=1) == b.argmax(axis=1))
    loss = _mean_loss(found, truth.windows)
    peer_loss = None if peers is None else _mean_loss(peers, truth.windows)
    quality = Quality(
        kind,
        sum(tensor.data.size for tensor in model.tensors.values()),
        sum(len(row) - 1 for row in truth.windows),
        loss,
        float(np.concatenate(cosine).mean()),
        float(np.concatenate(kl).mean()),
        float(np.exp(loss - truth.loss)),
        float(np.concatenate(same).mean()),
        peer_loss,
        float(np.concatenate(agree).mean()) if agree else None,
        path=kept,
    )
    return replace(quality, missed=_missed(quality))


def _missed(quality: Quality) -> tuple[str, ...]:
    limits = LIMITS[quality.kind]
    words = []
    if not quality.cosine >= limits.cosine:
        words.append(f"cosine {quality.cosine:.5f} is below {limits.cosine}")
    if not quality.kl <= limits.kl:
        words.append(f"KL {quality.kl:.5f} is above {limits.kl}")
    if not quality.perplexity_ratio <= limits.perplexity:
        words.append(f"perplexity is {quality.perplexity_ratio:.4f} times float32's, above {limits.perplexity}")
    if not quality.top1 >= limits.top1:
        words.append(f"top-1 agreement {quality.top1:.4f} is below {limits.top1}")
    if quality.peer_loss is not None and quality.loss > quality.peer_loss * PEER_SHARE:
        words.append(f"loss {quality.loss:.5f} is above llama.cpp's {quality.peer_loss:.5f} by more than 0.5 %")
    return tuple(words)


def _peer(path: Path, windows: Sequence[Sequence[int]]) -> tuple[list[np.ndarray] | None, str]:
    """llama.cpp's logits on the same file; (None, why) without it."""
    try:
        import llama_cpp
    except ImportError:
        return None, "llama-cpp-python is not installed: llama.cpp's own loss is not compared"
    longest = max(map(len, windows))
    model: Any = llama_cpp.Llama(
        str(path), n_ctx=longest, n_batch=longest, n_threads=1, n_threads_batch=1, logits_all=True, verbose=False
    )
    rows = []
    for tokens in windows:
        model.reset()
        model.eval(list(tokens))
        rows.append(np.array(model.scores[: len(tokens)], np.float32))
    model.close()
    return rows, ""
