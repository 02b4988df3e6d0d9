"""Configurations of other trainers, read as recipes: TRL's (`trl sft --config`, a dumped SFTConfig) and Axolotl's.

YAML is read by its safe loader, so that a file is data and no code. What every key becomes: translation.py.
"""

from __future__ import annotations

import json
from pathlib import Path

from alexandra.errors import ConfigError, NotFoundError, missing_extra
from alexandra.train.lm.from_axolotl import Axolotl
from alexandra.train.lm.from_trl import TRL, trl_stage
from alexandra.train.lm.translation import Translation, Values, flat

SUFFIXES = (".yaml", ".yml", ".json")


def translate(path: Path, stage: str = "") -> Translation:
    """The recipe of a TRL or Axolotl file. `stage` where a TRL file does not show it. Raises ConfigError."""
    given = _read(path)
    if "base_model" in given:
        return _finished(Axolotl(given, path).translated(), given)
    if "model_name_or_path" in given or stage or trl_stage(given, path):
        return _finished(TRL(given, path, stage).translated(), given)
    raise ConfigError(
        f"{str(path)!r} is no configuration of TRL (model_name_or_path) nor of Axolotl (base_model)",
        hint="say which stage a dumped TRL configuration is for: --stage sft",
    )


def _read(path: Path) -> Values:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise NotFoundError(f"cannot read {str(path)!r}: {error}") from error
    if path.suffix == ".json":
        try:
            found = json.loads(text)
        except ValueError as error:
            raise ConfigError(f"{str(path)!r} is not JSON: {error}") from error
    else:
        try:
            import yaml
        except ImportError:
            raise missing_extra("a YAML file", "hf") from None
        try:
            found = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ConfigError(f"{str(path)!r} is not plain YAML: {error}") from error
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        raise ConfigError(f"{str(path)!r} holds no keys and values")
    return found


def _finished(made: Translation, given: Values) -> Translation:
    """Whatever no rule touched is listed; a null says nothing."""
    for key, value in flat(given).items():
        known = key in made.taken or key in made.no_effect or key in made.left
        if not known and value is not None:
            made.left[key] = f"{value!r} is not known here"
    return made
