"""A recipe: which sources go through which steps into which corpus, as TOML.

    output = "corpus"
    [[sources]]
    name = "web"
    files = "crawl/*.warc.gz"
    [[steps]]
    use = "extract"
    [minhash]
    [tokenizer]
    vocabulary = 16000
    [mix]
    weights = { web = 0.8, code = 0.2 }
    [shards]
    length = 2048

Relative paths start at the recipe's folder. Leave out [minhash], [tokenizer] or [shards] and the run stops before.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from alexandra import storage
from alexandra.config import Config, load_config
from alexandra.data.dedup.paragraphs import Paragraphs
from alexandra.data.dedup.shingles import MinHash
from alexandra.data.formats import FORMATS, ReadOptions
from alexandra.data.formats.options import MAX_RECORD_BYTES
from alexandra.data.steps import STEPS
from alexandra.data.tokens.mix import MixSettings
from alexandra.data.tokens.shards import FORMATS as SHARD_FORMATS
from alexandra.data.tokens.tokenizer import TokenizerSettings
from alexandra.errors import ConfigError, suggest

PLACES = ("local", "ray")


class Source(Config):
    """files: a file, a folder or a pattern; format: by the file names if it is not given."""

    name: str
    files: str
    format: str = ""
    text: str = "text"
    id: str = ""
    split: str = "file"
    units: str = "file"
    metadata: tuple[str, ...] = ("*",)
    max_record_bytes: int = MAX_RECORD_BYTES

    def options(self) -> ReadOptions:
        given = self.model_dump(exclude={"name", "files", "format"})
        return ReadOptions(source=self.name, **given)


class Exact(Config):
    """Exact duplicates; normalise: case and blanks do not count."""

    normalise: bool = False


class Near(MinHash):
    """Near duplicates. keep: "first" or "longest"; index: a folder of earlier corpora, to which `name` is added."""

    keep: str = "first"
    index: str = ""
    name: str = ""

    def settings(self) -> MinHash:
        return MinHash(**self.model_dump(include=set(MinHash.model_fields)))


class Shards(Config):
    """Rows of `length` tokens, `rows` of them in a file."""

    length: int = 2048
    rows: int = 4096
    format: str = "mapped"


class Run(Config):
    """workers: processes on this machine; place: "local" or "ray"; memory: what global stages may take, in bytes;
    part_bytes: a larger file is cut, where its format can be, into parts of this size that workers share.
    """

    workers: int = 1
    place: str = "local"
    memory: int = 1 << 30
    file_seconds: float = 0.0
    part_bytes: int = Field(default=64 << 20, ge=1)


class Recipe(Config):
    """Everything that a run needs."""

    output: str
    sources: tuple[Source, ...]
    steps: tuple[Mapping[str, Any], ...] = ()
    work: str = ""
    seed: int = 0
    exact: Exact | None = Exact()
    paragraphs: Paragraphs | None = None
    minhash: Near | None = None
    tokenizer: TokenizerSettings | None = None
    mix: MixSettings = MixSettings()
    shards: Shards = Shards()
    run: Run = Field(default_factory=Run)

    def checked(self, source: str) -> Recipe:
        """ConfigError for what a type cannot say."""
        names = [one.name for one in self.sources]
        if not names:
            raise ConfigError(f"{source}: no [[sources]]")
        if len(set(names)) != len(names):
            raise ConfigError(f"{source}: two sources have one name")
        for one in self.sources:
            if one.format and one.format not in FORMATS:
                raise ConfigError(f"{source}: unknown format {one.format!r}", hint=suggest(one.format, FORMATS))
        for number, step in enumerate(self.steps, 1):
            if step.get("use") not in STEPS:
                raise ConfigError(
                    f"{source}: step {number} uses {step.get('use')!r}", hint=suggest(str(step.get("use")), STEPS)
                )
        for value, allowed in ((self.shards.format, SHARD_FORMATS), (self.run.place, PLACES)):
            if value not in allowed:
                raise ConfigError(f"{source}: unknown {value!r}", hint=suggest(value, allowed))
        if self.minhash is not None and bool(self.minhash.index) != bool(self.minhash.name):
            raise ConfigError(f"{source}: an index needs both minhash.index and minhash.name")
        return self


def load_recipe(path: str | Path, overrides: tuple[str, ...] = ()) -> Recipe:
    """Read and check a recipe file."""
    return load_config(path, Recipe, overrides).checked(str(path))


def key_of(*parts: Any) -> str:
    """A name for what follows from `parts` (JSON values): a stage with equal inputs has an equal name."""
    return storage.content_hash(storage.json_bytes(list(parts)))[:16]
