"""Tokenizers as GGUF files carry them: SentencePiece-like merges by score ("llama") and byte-level BPE ("gpt2").

Also byte-level BPE from a Hugging Face `tokenizer.json`. A token's text is bytes (it may be half a character). The
splits of BPE before merging are the published regular expressions of GPT-2, Llama 3 and Qwen 2, run on a line of
character classes, for the standard library knows no \\p{L}.
"""

from __future__ import annotations

import heapq
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from alexandra.errors import BackendError, StorageError, suggest
from alexandra.storage import read_json

_CONTRACTIONS = "'(?:s|t|re|ve|m|ll|d)"
# On classes: letters keep ASCII or become "a", numbers "0", other marks "!"; space, \r, \n stay, other blanks are \t.
SPLITS: dict[str, str] = {
    "gpt-2": rf"{_CONTRACTIONS}| ?[A-Za-z]+| ?[0-9]+| ?[^\sA-Za-z0-9]+|\s+(?!\S)|\s+",
    "llama-bpe": rf"(?i:{_CONTRACTIONS})|[^\r\nA-Za-z0-9]?[A-Za-z]+|[0-9]{{1,3}}| ?[^\sA-Za-z0-9]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+",
    "qwen2": rf"(?i:{_CONTRACTIONS})|[^\r\nA-Za-z0-9]?[A-Za-z]+|[0-9]| ?[^\sA-Za-z0-9]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+",
}
_NORMAL, _UNKNOWN, _CONTROL, _USER, _BYTE = 1, 2, 3, 4, 6


def _byte_letters() -> dict[int, str]:
    """GPT-2's printable letter for each byte."""
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table = {byte: chr(byte) for byte in kept}
    return table | {byte: chr(256 + i) for i, byte in enumerate(b for b in range(256) if b not in table)}


def _classes(text: str) -> str:
    return "".join(map(_class_of, text))


def _class_of(char: str) -> str:
    if char.isascii():
        return char if char in " \r\n'" or char.isalnum() else "\t" if char.isspace() else "!"
    kind = unicodedata.category(char)[0]
    return "a" if kind == "L" else "0" if kind == "N" else "\t" if char.isspace() else "!"


@dataclass(frozen=True)
class Tokenizer:
    """`pieces[i]` is what token i adds to a text. `merges` (rank by pair) for BPE, `scores` for SentencePiece.

    `added` texts are tokens wherever they stand (the longest first), `special` ones only when asked for.
    """

    pieces: tuple[bytes, ...]
    tokens: Mapping[str, int]
    merges: Mapping[tuple[str, str], int]
    scores: tuple[float, ...]
    split: str
    added: Mapping[str, int]
    special: Mapping[str, int]
    begin: int | None
    space_first: bool = False

    def encode(self, text: str, *, begin: bool = True, special: bool = False) -> list[int]:
        """Tokens of `text`, after the begin token where the model has one; `special`: texts of control tokens count."""
        head = [self.begin] if begin and self.begin is not None else []
        whole = {**self.added, **self.special} if special else self.added
        if not whole:
            return head + self._plain(text)
        found = re.split("(" + "|".join(map(re.escape, sorted(whole, key=len, reverse=True))) + ")", text)
        parts = [[whole[part]] if part in whole else self._plain(part) for part in found if part]
        return head + [token for part in parts for token in part]

    def decode(self, tokens: Iterable[int]) -> str:
        """The text of `tokens`; bytes that are no UTF-8 become U+FFFD."""
        return b"".join(self.pieces[token] for token in tokens).decode(errors="replace")

    def _plain(self, text: str) -> list[int]:
        if not text:
            return []
        if self.scores:
            return self._by_score(((" " if self.space_first else "") + text).replace(" ", "\u2581"))
        result, classes = [], _classes(text)
        for match in re.finditer(SPLITS[self.split], classes):
            raw = text[match.start() : match.end()].encode()
            result += self._by_rank("".join(self._letters[byte] for byte in raw))
        return result

    @cached_property
    def _letters(self) -> dict[int, str]:
        return _byte_letters()

    def _by_rank(self, word: str) -> list[int]:
        parts = list(word)
        while len(parts) > 1:
            pairs = zip(parts, parts[1:], strict=False)
            rank, at = min((self.merges.get(pair, 1 << 60), i) for i, pair in enumerate(pairs))
            if rank == 1 << 60:
                break
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
        return [self._known(part) for part in parts]

    def _known(self, part: str) -> int:
        if part not in self.tokens:
            raise BackendError(f"the tokenizer has no token for {part!r}")
        return self.tokens[part]

    def _by_score(self, text: str) -> list[int]:
        """The pair whose joint piece has the highest score is merged first; ties: the leftmost."""
        parts: list[str | None] = list(text)
        after, before = list(range(1, len(parts) + 1)), list(range(-1, len(parts) - 1))
        queue: list[tuple[float, int, int, str]] = []

        def offer(left: int, right: int) -> None:
            if left >= 0 and right < len(parts):
                joint = (parts[left] or "") + (parts[right] or "")
                token = self.tokens.get(joint)
                if token is not None:
                    heapq.heappush(queue, (-self.scores[token], left, right, joint))

        for i in range(len(parts) - 1):
            offer(i, i + 1)
        while queue:
            _, left, right, joint = heapq.heappop(queue)
            if parts[left] is None or parts[right] is None or (parts[left] or "") + (parts[right] or "") != joint:
                continue
            if after[left] != right:
                continue
            parts[left], parts[right] = joint, None
            after[left] = after[right]
            if after[right] < len(parts):
                before[after[right]] = left
            offer(before[left], left)
            offer(left, after[left])
        return [token for part in parts if part is not None for token in self._or_bytes(part)]

    def _or_bytes(self, part: str) -> list[int]:
        if part in self.tokens:
            return [self.tokens[part]]
        return [self._known(f"<0x{byte:02X}>") for byte in part.encode()]


def tokenizer_from_gguf(metadata: Mapping[str, Any]) -> Tokenizer | None:
    """The tokenizer of a GGUF file, None when it has none. BackendError for a kind that is not known."""
    kind = metadata.get("tokenizer.ggml.model")
    raw = metadata.get("tokenizer.ggml.tokens")
    if kind is None or not isinstance(raw, list):
        return None
    names = [name.decode(errors="replace") for name in raw]
    kinds = metadata.get("tokenizer.ggml.token_type") or [_NORMAL] * len(names)
    tokens = {name: i for i, name in reversed(list(enumerate(names)))}
    special = {name: i for i, name in enumerate(names) if kinds[i] == _CONTROL}
    added = {name: i for i, name in enumerate(names) if kinds[i] == _USER}
    begin = metadata.get("tokenizer.ggml.bos_token_id")
    begin = int(begin) if begin is not None and metadata.get("tokenizer.ggml.add_bos_token", kind == "llama") else None
    if kind == "llama":
        scores = tuple(metadata.get("tokenizer.ggml.scores") or [0.0] * len(names))
        pieces = tuple(_piece(name, kind) for name, kind in zip(raw, kinds, strict=True))
        first = bool(metadata.get("tokenizer.ggml.add_space_prefix", True))
        return Tokenizer(pieces, tokens, {}, scores, "", added, special, begin, first)
    if kind != "gpt2":
        raise BackendError(f"the tokenizer kind {kind!r} is not known", hint=suggest(str(kind), ("llama", "gpt2")))
    merges = [merge.decode(errors="replace") for merge in metadata.get("tokenizer.ggml.merges") or []]
    split = str(metadata.get("tokenizer.ggml.pre", "gpt-2"))
    return _byte_level(names, merges, {"default": "gpt-2"}.get(split, split), (added, special), begin)


def _piece(name: bytes, kind: int) -> bytes:
    if kind == _BYTE:
        return bytes([int(name[3:5], 16)])
    if kind in (_CONTROL, _UNKNOWN):
        return b""
    return name if kind == _USER else name.replace("\u2581".encode(), b" ")


def _byte_level(
    names: list[str],
    merges: list[str],
    split: str,
    whole: tuple[Mapping[str, int], Mapping[str, int]],
    begin: int | None,
) -> Tokenizer:
    """`whole`: texts that are tokens wherever they stand, and special ones."""
    added, special = whole
    if split not in SPLITS:
        raise BackendError(f"the pre-tokenizer {split!r} is not known", hint=suggest(split, SPLITS))
    back = {letter: byte for byte, letter in _byte_letters().items()}

    def piece(name: str) -> bytes:
        if name in special:
            return b""
        return name.encode() if name in added else bytes(back.get(c, 63) for c in name)

    ranks: dict[tuple[str, str], int] = {}
    for rank, merge in enumerate(merges):
        left, _, right = merge.partition(" ")
        ranks.setdefault((left, right), rank)
    tokens = {name: i for i, name in reversed(list(enumerate(names)))}
    return Tokenizer(tuple(map(piece, names)), tokens, ranks, (), split, added, special, begin)


def tokenizer_from_hf(folder: Path) -> Tokenizer | None:
    """The byte-level BPE of a folder's `tokenizer.json`, None when there is no such file or it is of another kind."""
    path = folder / "tokenizer.json"
    if not path.is_file():
        return None
    data = read_json(path)
    try:
        model, pre = data["model"], data.get("pre_tokenizer") or {}
        parts = pre.get("pretokenizers", [pre])
        if model.get("type", "BPE") != "BPE" or not any(part.get("type") == "ByteLevel" for part in parts):
            return None
        items = data.get("added_tokens") or []
        added = {item["content"]: int(item["id"]) for item in items if not item.get("special")}
        special = {item["content"]: int(item["id"]) for item in items if item.get("special")}
        vocab = {**model["vocab"], **added, **special}
        names = [""] * (max(vocab.values()) + 1)
        for name, index in vocab.items():
            names[index] = name
        merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
        pattern = next((part["pattern"]["Regex"] for part in parts if part.get("type") == "Split"), "")
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise StorageError(f"{str(path)!r} is not a tokenizer: {error!r}") from None
    split = "llama-bpe" if "{1,3}" in pattern else "qwen2" if pattern else "gpt-2"
    return _byte_level(names, merges, split, (added, special), None)
