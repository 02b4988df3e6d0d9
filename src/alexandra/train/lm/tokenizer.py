"""Text to token numbers and back: characters of a fixed alphabet, or any Hugging Face tokenizer.

Special tokens are never read out of user text: `encode` gives their spelling as ordinary characters, so a prompt cannot
end a turn or open one. Only rendering (chat.py) puts special tokens in. Nothing here is fetched or executed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from alexandra.errors import DataError, NotFoundError, missing_extra
from alexandra.storage import parse_json, publish, read_bytes

PAD, BOS, EOS = "<pad>", "<bos>", "<eos>"


class Tokenizer(Protocol):
    """What training and generation need. `special(text)` is the number of a special token, or None."""

    @property
    def vocab_size(self) -> int: ...

    @property
    def pad(self) -> int: ...

    @property
    def bos(self) -> int | None: ...

    @property
    def eos(self) -> int: ...

    def encode(self, text: str) -> list[int]: ...

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of `tokens`; special tokens are left out."""
        ...

    def special(self, text: str) -> int | None: ...


@dataclass(frozen=True)
class CharTokenizer:
    """One token per character of `alphabet`, behind the special tokens. DataError for a character outside it."""

    alphabet: str
    specials: tuple[str, ...] = (PAD, BOS, EOS)

    def __post_init__(self) -> None:
        if len(set(self.alphabet)) != len(self.alphabet):
            twice = next(c for i, c in enumerate(self.alphabet) if c in self.alphabet[:i])
            raise DataError(f"the alphabet has {twice!r} twice")
        if not {PAD, EOS} <= set(self.specials):
            raise DataError(f"the special tokens must have {PAD} and {EOS}, got {list(self.specials)}")

    @staticmethod
    def of(text: str, specials: tuple[str, ...] = (PAD, BOS, EOS)) -> CharTokenizer:
        """The tokenizer of every character that occurs in `text`, in the order of their code points."""
        return CharTokenizer("".join(sorted(set(text))), specials)

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {character: len(self.specials) + i for i, character in enumerate(self.alphabet)}

    @property
    def vocab_size(self) -> int:
        return len(self.specials) + len(self.alphabet)

    @property
    def pad(self) -> int:
        return self.specials.index(PAD)

    @property
    def bos(self) -> int | None:
        return self.special(BOS)

    @property
    def eos(self) -> int:
        return self.specials.index(EOS)

    def special(self, text: str) -> int | None:
        return self.specials.index(text) if text in self.specials else None

    def encode(self, text: str) -> list[int]:
        try:
            return [self._numbers[character] for character in text]
        except KeyError as error:
            place = text.index(error.args[0])
            raise DataError(
                f"character {error.args[0]!r} at position {place} of {text[:40]!r} is not in the alphabet",
                hint=f"the alphabet is {self.alphabet!r}",
            ) from None

    def decode(self, tokens: Sequence[int]) -> str:
        first = len(self.specials)
        return "".join(self.alphabet[token - first] for token in tokens if token >= first)

    def text(self) -> str:
        """The alphabet as JSON; `load_tokenizer` reads it."""
        record = {"kind": "characters", "alphabet": self.alphabet, "specials": list(self.specials)}
        return json.dumps(record, ensure_ascii=False, indent=1)

    def save(self, path: Path) -> None:
        """Write `text()`."""
        publish(path, self.text().encode())


class HubTokenizer:
    """A tokenizer of the `tokenizers` library, from its tokenizer.json. `eos` and `pad` are names of its tokens."""

    def __init__(self, inner: Any, *, eos: str, pad: str = "", bos: str = "") -> None:
        self.inner = inner
        self._eos = self._needed(eos)
        self._pad = self._needed(pad) if pad else self._eos
        self._bos = self._needed(bos) if bos else None
        self._names = {"eos_token": eos, **({"pad_token": pad} if pad else {}), **({"bos_token": bos} if bos else {})}
        self._added = {token.content: number for number, token in inner.get_added_tokens_decoder().items()}

    def files(self) -> dict[str, bytes]:
        """tokenizer.json and the names of its special tokens, as Hugging Face folders have them."""
        names = json.dumps(self._names, ensure_ascii=False, indent=1)
        return {"tokenizer.json": self.inner.to_str(pretty=True).encode(), "tokenizer_config.json": names.encode()}

    def _needed(self, name: str) -> int:
        number = self.inner.token_to_id(name)
        if number is None:
            raise DataError(f"the tokenizer has no token {name!r}", hint="name one of its special tokens")
        return int(number)

    @property
    def vocab_size(self) -> int:
        return int(self.inner.get_vocab_size(with_added_tokens=True))

    @property
    def pad(self) -> int:
        return self._pad

    @property
    def bos(self) -> int | None:
        return self._bos

    @property
    def eos(self) -> int:
        return self._eos

    def special(self, text: str) -> int | None:
        return self._added.get(text)

    def encode(self, text: str) -> list[int]:
        """Pieces between the spellings of special tokens are encoded apart, so that no spelling becomes one."""
        return (
            [int(token) for token in self.inner.encode(text, add_special_tokens=False).ids]
            if not any(name in text for name in self._added)
            else self._encode_plain(text)
        )

    def _encode_plain(self, text: str) -> list[int]:
        """Text that spells special tokens: each spelling is broken after its first character."""
        pieces, rest = [], text
        while rest:
            places = [(rest.find(name), name) for name in self._added if name and name in rest]
            if not places:
                pieces.append(rest)
                break
            at, _ = min(places)
            pieces.append(rest[: at + 1])
            rest = rest[at + 1 :]
        return [int(t) for piece in pieces for t in self.inner.encode(piece, add_special_tokens=False).ids]

    def decode(self, tokens: Sequence[int]) -> str:
        return str(self.inner.decode(list(tokens), skip_special_tokens=True))


def load_tokenizer(path: str | Path, *, eos: str = "", pad: str = "", bos: str = "") -> Tokenizer:
    """A tokenizer from a file of ours, a tokenizer.json, or a folder that holds one of them.

    In a Hugging Face folder the names of eos, pad and bos come from tokenizer_config.json unless they are given.
    """
    place = Path(path)
    if place.is_dir():
        file = next((place / n for n in ("tokenizer.json", "characters.json") if (place / n).exists()), None)
        if file is None:
            raise NotFoundError(f"folder {str(place)!r} holds no tokenizer.json and no characters.json")
        place = file
    record = parse_json(read_bytes(place), str(place))
    if isinstance(record, dict) and record.get("kind") == "characters":
        return CharTokenizer(str(record["alphabet"]), tuple(map(str, record["specials"])))
    try:
        import tokenizers
    except ImportError:
        raise missing_extra("a tokenizer.json", "data") from None
    names = _named_tokens(place.with_name("tokenizer_config.json"))
    eos = eos or names.get("eos_token", "")
    if not eos:
        raise DataError(f"{str(place)!r} does not say which token ends a text", hint="name it: eos='<|endoftext|>'")
    inner = tokenizers.Tokenizer.from_file(str(place))
    return HubTokenizer(inner, eos=eos, pad=pad or names.get("pad_token", ""), bos=bos or names.get("bos_token", ""))


def _named_tokens(path: Path) -> dict[str, str]:
    """eos_token, pad_token and bos_token of a tokenizer_config.json; empty without the file."""
    if not path.exists():
        return {}
    record = parse_json(read_bytes(path), str(path))
    found = {}
    for key in ("eos_token", "pad_token", "bos_token"):
        value = record.get(key) if isinstance(record, dict) else None
        value = value.get("content") if isinstance(value, dict) else value
        if isinstance(value, str):
            found[key] = value
    return found


def same_tokens(a: Tokenizer, b: Tokenizer) -> bool:
    """Whether both give every text the same numbers: one alphabet, or one tokenizer.json."""
    if isinstance(a, CharTokenizer) and isinstance(b, CharTokenizer):
        return a == b
    if isinstance(a, HubTokenizer) and isinstance(b, HubTokenizer):
        return bool(a.inner.to_str() == b.inner.to_str())
    return a is b
