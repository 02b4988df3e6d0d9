"""TOML -> a validated, frozen config; an unknown key is an error with a suggestion.

A config is a subclass of `Config` that stands beside the code that reads it; this module only reads text,
lays `key=value` overrides over it and turns pydantic's complaints into one ConfigError that names the file,
the key, the value and what is allowed. It knows no setting itself.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from alexandra.errors import ConfigError, suggest


class Config(BaseModel):
    """Base of every config: frozen, no unknown keys, no silent conversion (a number in quotes is not a number)."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


C = TypeVar("C", bound=Config)


def load_config(path: str | Path, kind: type[C], overrides: Sequence[str] = ()) -> C:
    """Read `path` as `kind`; `overrides` are "section.key=value" texts whose values are TOML (or bare words)."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(f"cannot read the configuration {str(path)!r}: {reason}") from error
    return parse_config(text, kind, overrides, source=str(path))


def parse_config(text: str, kind: type[C], overrides: Sequence[str] = (), source: str = "<text>") -> C:
    """The same from text; `source` is what errors call it."""
    try:
        data = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"{source}: not TOML: {error}") from error
    for override in overrides:
        _lay_over(data, override)
    return validate(data, kind, source)


def validate(data: Mapping[str, Any], kind: type[C], source: str = "<values>") -> C:
    """Check plain values against `kind`; the ConfigError lists every complaint, one per line."""
    try:
        return kind.model_validate(_tuples(data))
    except ValidationError as error:
        lines = [_complaint(kind, complaint) for complaint in error.errors()]
        raise ConfigError("\n".join(f"{source}: {line}" for line in lines)) from error


def _tuples(value: Any) -> Any:
    """TOML's lists as the tuples that frozen configs hold."""
    if isinstance(value, Mapping):
        return {key: _tuples(inner) for key, inner in value.items()}
    return tuple(_tuples(inner) for inner in value) if isinstance(value, list) else value


def _lay_over(data: dict[str, Any], override: str) -> None:
    name, equals, raw = override.partition("=")
    keys = name.strip().split(".")
    if not equals or not all(keys):
        raise ConfigError(
            f"cannot read the override {override!r}", hint="write section.key=value, for instance train.lr=0.01"
        )
    place = data
    for depth, key in enumerate(keys[:-1], 1):
        place = place.setdefault(key, {})
        if not isinstance(place, dict):
            raise ConfigError(f"override {override!r}: {'.'.join(keys[:depth])!r} is a value, not a section")
    place[keys[-1]] = _value(raw.strip())


def _value(raw: str) -> Any:
    """A TOML value; what is not one is taken as a bare word."""
    try:
        return tomllib.loads(f"value = {raw}")["value"] if "\n" not in raw else raw
    except (tomllib.TOMLDecodeError, RecursionError):
        return raw


def _complaint(kind: type[Config], complaint: Any) -> str:
    where = ".".join(str(part) for part in complaint["loc"]) or "the configuration"
    if complaint["type"] == "extra_forbidden":
        section, key = complaint["loc"][:-1], str(complaint["loc"][-1])
        return f"unknown key {where!r}; {suggest(key, _fields(kind, section))}"
    if complaint["type"] == "missing":
        return f"the key {where!r} is missing"
    message = complaint["msg"][0].lower() + complaint["msg"][1:]
    return f"{where} = {complaint['input']!r}: {message}"


def _fields(kind: type[BaseModel], section: Sequence[int | str]) -> list[str]:
    """The keys that the section at `section` allows; list positions and union branches are stepped through."""
    for part in section:
        if isinstance(part, str) and part in kind.model_fields:
            kind = _model_inside(kind.model_fields[part].annotation) or kind
    return [info.alias or name for name, info in kind.model_fields.items()]


def _model_inside(annotation: Any) -> type[BaseModel] | None:
    """The first config class in an annotation such as `tuple[Stage, ...]` or `Stage | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = (_model_inside(inner) for inner in get_args(annotation))
    return next((inner for inner in found if inner is not None), None)
