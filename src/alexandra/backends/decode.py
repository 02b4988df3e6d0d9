"""Text from decoder language models in the native engine: planned once, prefilled in chunks, batched continuously.

A Generator owns the plan: weights mapped from GGUF or safetensors (and packed for the kernels), a cache for `slots`
sequences of `context` positions, an arena; all sizes are known before the first token (`memory`). Every row draws
from its own stream derive(seed, "sample", row), and no kernel mixes rows: what a prompt becomes is the same alone
and in any batch. Nothing here trains; torch is not needed. Who trains the weights meanwhile calls `refresh`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from alexandra.backends.decode_config import DecoderConfig, config_from_gguf, config_from_hf
from alexandra.backends.decode_plan import Steps, plan
from alexandra.backends.decode_tokenizer import Tokenizer, tokenizer_from_gguf, tokenizer_from_hf
from alexandra.backends.gguf import read_gguf
from alexandra.backends.quant import StoredTensor
from alexandra.errors import BackendError, StorageError
from alexandra.rng import Stream, derive
from alexandra.storage import read_json

FINISHES = ("running", "length", "end", "stop")
_CHECK_EVERY = 16  # steps between looks at Ctrl-C
_PART_ROWS, _PART_BYTES = 16, 1 << 24  # each thread decodes rows of its own: at least so many, weights at most so large
Prompt = str | Sequence[int]


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen. temperature 0 is greedy; top_k 0 and top_p 1 cut nothing; `logprobs` asks for that many
    best tokens beside the chosen one; `stop` texts end a row and are left out of its text; `keep_end` leaves the end
    token in the result."""

    max_tokens: int = 64
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    stop: tuple[str, ...] = ()
    logprobs: int = 0
    ignore_end: bool = False
    keep_end: bool = False
    seed: int = 0


@dataclass(frozen=True)
class Completion:
    """What one prompt became. `finish` is "length", "end" (an end token) or "stop"; `text` is None without a tokenizer.

    `logprobs` are natural logarithms under the model's own distribution; `alternatives` the best tokens with theirs.
    """

    tokens: tuple[int, ...]
    text: str | None
    finish: str
    logprobs: tuple[float, ...]
    alternatives: tuple[tuple[tuple[int, float], ...], ...] = ()


@dataclass(frozen=True, eq=False)
class DecoderModel:
    """A decoder on disk: what it is, its tensors (views of mapped files), its tokenizer if it has one."""

    config: DecoderConfig
    tensors: Mapping[str, StoredTensor]
    tokenizer: Tokenizer | None = None
    source: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def end_tokens(self) -> tuple[int, ...]:
        return self.config.end_tokens

    @property
    def most_positions(self) -> int:
        """What a context is when nobody says: the model's own, at most 2048."""
        return min(self.config.context, 2048)

    @property
    def most_tokens(self) -> int:
        return self.config.vocab

    def steps(self, context: int) -> Steps:
        """The engine's plan. BackendError for a context beyond learned positions."""
        if self.config.rope is None and context > self.config.context:
            raise BackendError(f"a context of {context} is beyond the model's {self.config.context} learned positions")
        return plan(self.config, self.tensors, context)


class Decodable(Protocol):
    """What a Generator plans: a DecoderModel, or a Graph with weights (decode_graph.GraphDecoder)."""

    @property
    def tokenizer(self) -> Tokenizer | None: ...
    @property
    def source(self) -> str: ...
    @property
    def end_tokens(self) -> tuple[int, ...]: ...
    @property
    def most_positions(self) -> int: ...
    @property
    def most_tokens(self) -> int: ...
    def steps(self, context: int) -> Steps: ...


def load_decoder(path: str | Path) -> DecoderModel:
    """Open a GGUF file, or a Hugging Face folder (config.json, *.safetensors, tokenizer.json)."""
    place = Path(path)
    if place.is_dir():
        return _load_folder(place)
    file = read_gguf(place)
    config = config_from_gguf(file.metadata, {name: tensor.shape for name, tensor in file.tensors.items()})
    return DecoderModel(config, file.tensors, tokenizer_from_gguf(file.metadata), str(place), file.metadata)


class Generator:
    """A planned decoder. `slots` sequences run at once; more prompts wait. `packed=False` leaves the weights in the
    file alone (least memory, slower). `isa` forces an instruction set (see `available_isas`). Threads share each step;
    many rows of a small model they take apart, each with a copy of the weights: the text is the same, without waiting
    for one another."""

    def __init__(
        self,
        model: Decodable | str | Path,
        *,
        slots: int = 1,
        context: int | None = None,
        chunk: int = 128,
        threads: int = 1,
        packed: bool = True,
        isa: str = "",
    ) -> None:
        from alexandra import _native

        self.model: Decodable = load_decoder(model) if isinstance(model, str | Path) else model
        self.context = self.model.most_positions if context is None else context
        steps = self.model.steps(self.context)
        weights = [(t.name, t.type, t.rows, t.cols, t.data) for t in steps.weights]
        pieces = list(self.model.tokenizer.pieces[: self.model.most_tokens]) if self.model.tokenizer else []
        apart = slots >= _PART_ROWS * threads and sum(t.data.nbytes for t in steps.weights) <= _PART_BYTES
        parts = threads if apart else 1
        rows = -(-slots // parts)
        sizes = (rows, self.context, max(-(-chunk // parts), rows), threads // parts)
        self._error = _native.EngineError
        try:
            self._sessions = [
                _native.decode.Session(steps.steps, weights, sizes, packed, isa, pieces) for _ in range(parts)
            ]
        except self._error as error:
            raise BackendError(str(error)) from None
        self._pool = ThreadPoolExecutor(parts, "decode") if parts > 1 else None

    @property
    def isa(self) -> str:
        return str(self._sessions[0].isa)

    @property
    def memory(self) -> dict[str, int]:
        """Bytes by tier: `mapped` (shared with the file), `packed`, `cache` (keys and values), `arena`."""
        mapped, *own = np.array([session.memory for session in self._sessions]).T.tolist()
        return dict(zip(("mapped", "packed", "cache", "arena"), (mapped[0], *map(sum, own)), strict=True))

    def generate(
        self,
        prompts: Sequence[Prompt],
        sampling: Sampling | None = None,
        *,
        streams: Sequence[Stream] = (),
        progress: Callable[[int], None] | None = None,
    ) -> list[Completion]:
        """One Completion per prompt (texts or tokens), in order. `progress` hears how many rows are not finished.

        Row i draws from streams[i], or derive(sampling.seed, "sample", i). BackendError names a prompt that cannot fit.
        """
        chosen = sampling or Sampling()
        given: list[tuple[Any, int]] = []  # the session of each row, and its number there
        try:
            for row, prompt in enumerate(prompts):
                session = self._sessions[row % len(self._sessions)]
                stream = streams[row] if streams else derive(chosen.seed, "sample", row)
                given.append((session, self._submit(session, row, prompt, chosen, stream)))
            left = len(given)
            while left:
                left = sum(self._each(lambda session: session.run(_CHECK_EVERY)))
                if progress is not None:
                    progress(left)
            return [self._completion(*place, chosen) for place in given]
        except self._error as error:
            raise BackendError(str(error)) from None
        finally:
            for session, number in given:
                session.forget(number)

    def _each(self, work: Callable[[Any], Any]) -> list[Any]:
        """Of each session, in a thread of its own where there are several."""
        return [work(self._sessions[0])] if self._pool is None else list(self._pool.map(work, self._sessions))

    def refresh(self) -> None:
        """Read the weights again, whose arrays have been written to since. BackendError while a row is generated."""
        try:
            self._each(lambda session: session.refresh())
        except self._error as error:
            raise BackendError(str(error)) from None

    def logits(self, tokens: Sequence[int]) -> np.ndarray:
        """float32 [len(tokens), vocab]: the logits after each token of one sequence."""
        given = np.ascontiguousarray(tokens, np.int32)
        if not 0 < len(given) <= self.context:
            raise BackendError(f"{len(given)} tokens do not fit a context of {self.context}")
        out = np.empty((len(given), self._sessions[0].vocab), np.float32)
        try:
            self._sessions[0].logits(given, out)
        except self._error as error:
            raise BackendError(str(error)) from None
        return out

    def encode(self, prompt: Prompt) -> list[int]:
        """Tokens of a prompt."""
        if not isinstance(prompt, str):
            return [int(token) for token in prompt]
        if self.model.tokenizer is None:
            raise BackendError(f"{self.model.source!r} has no tokenizer that is known here", hint="give tokens instead")
        return self.model.tokenizer.encode(prompt)

    def _submit(self, session: Any, row: int, prompt: Prompt, sampling: Sampling, stream: Stream) -> int:
        ends = [] if sampling.ignore_end else list(self.model.end_tokens)
        try:
            number = session.submit(
                np.ascontiguousarray(self.encode(prompt), np.int32),
                (sampling.temperature, sampling.top_p, sampling.repetition_penalty),
                (sampling.top_k, sampling.max_tokens, sampling.logprobs),
                (stream.key, stream.nonce, stream.lane),
                ends,
                sampling.keep_end,
                [text.encode() for text in sampling.stop],
            )
        except self._error as error:
            raise BackendError(f"prompt {row}: {error}") from None
        return int(number)

    def _completion(self, session: Any, number: int, sampling: Sampling) -> Completion:
        tokens, logprobs, others, scores, finish, cut = session.result(number)
        text = None
        if self.model.tokenizer is not None:
            raw = b"".join(self.model.tokenizer.pieces[token] for token in tokens)
            text = (raw if cut < 0 else raw[:cut]).decode(errors="replace")
        n = sampling.logprobs
        rows = tuple(
            tuple(zip(others[i : i + n], scores[i : i + n], strict=True)) for i in range(0, len(others), max(n, 1))
        )
        return Completion(tuple(tokens), text, FINISHES[finish], tuple(logprobs), rows)


def generate(
    model: Decodable | str | Path, prompts: Sequence[Prompt], sampling: Sampling | None = None, **changes: Any
) -> list[Completion]:
    """Load, plan and generate; `changes` are fields of Sampling. For more than one call keep a Generator."""
    chosen = replace(sampling or Sampling(), **changes)
    loaded = load_decoder(model) if isinstance(model, str | Path) else model
    generator = Generator(loaded, slots=min(max(len(prompts), 1), 64))
    return generator.generate(prompts, chosen)


def available_isas() -> list[str]:
    """Instruction sets that decoders can run on here, best first."""
    from alexandra import _native

    return list(_native.decode.available_isas())


_HF_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "wte": "token_embd",
    "wpe": "position_embd",
    "ln_f": "output_norm",
    "ln_1": "attn_norm",
    "ln_2": "ffn_norm",
    "attn.c_attn": "attn_qkv",
    "attn.c_proj": "attn_output",
    "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
}


def gguf_name(name: str) -> str | None:
    """GGUF's name of a Hugging Face parameter; None for what decoding does not need (masks, buffers)."""
    owner, _, suffix = name.removeprefix("transformer.").rpartition(".")
    if suffix not in ("weight", "bias"):
        return None
    parts = owner.removeprefix("model.").split(".")
    if parts[0] in ("layers", "h") and len(parts) > 2 and parts[1].isdigit():
        inner = _HF_NAMES.get(".".join(parts[2:]))
        return inner and f"blk.{parts[1]}.{inner}.{suffix}"
    outer = _HF_NAMES.get(owner)
    return outer and f"{outer}.{suffix}"


def read_safetensors(path: str | Path) -> dict[str, StoredTensor]:
    """The floating-point tensors of a safetensors file, mapped; StorageError says what is wrong with a damaged one."""
    import json

    from alexandra import _native

    try:
        file = _native.decode.Safetensors(str(path))
        found = {json.loads(b'"' + raw + b'"'): (kind, tuple(shape), data) for raw, kind, shape, data in file.tensors()}
    except (_native.EngineError, ValueError) as error:
        raise StorageError(f"{str(path)!r} is not a whole safetensors file: {error}") from None
    kept = {name: item for name, item in found.items() if item[0] in ("F32", "F16", "BF16") and item[1]}
    return {name: StoredTensor(name, kind, shape, data) for name, (kind, shape, data) in kept.items()}


def _load_folder(folder: Path) -> DecoderModel:
    config = config_from_hf(read_json(folder / "config.json"))
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise StorageError(f"{str(folder)!r} holds no *.safetensors file")
    tensors: dict[str, StoredTensor] = {}
    for file in files:
        for name, tensor in read_safetensors(file).items():
            known = gguf_name(name)
            if known:
                turned = _turned(known, tensor) if config.architecture == "gpt2" else tensor
                tensors[known] = replace(turned, name=known)
    if "output.weight" in tensors and config.tied:
        tensors.pop("output.weight")
    return DecoderModel(config, tensors, tokenizer_from_hf(folder), str(folder))


def _turned(name: str, tensor: StoredTensor) -> StoredTensor:
    """GPT-2 keeps its projections (in, out); the engine wants (out, in)."""
    if len(tensor.shape) != 2 or "embd" in name:
        return tensor
    turned = np.ascontiguousarray(tensor.array().T)
    return StoredTensor(name, "F32", turned.shape, turned.reshape(-1).view(np.uint8))
