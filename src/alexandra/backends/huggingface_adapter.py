"""LoRA adapters in PEFT's folders: read, merged into a model's weights, and written (Hu et al., "LoRA", 2021).

An adapter's difference of a weight is scale * B A. Other kinds (DoRA, ranks or scales by pattern, biases, modules as a
whole) are refused by name; nothing is unpickled and no torch is involved.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np

from alexandra.backends.huggingface import Pretrained, family_of
from alexandra.backends.huggingface_config import Config
from alexandra.backends.huggingface_families import Place
from alexandra.backends.huggingface_tensors import WEIGHTS, Stored, encoded, small_json, tensor_files, tensors_of
from alexandra.errors import WeightsError, suggest
from alexandra.ir.weights import WeightSet
from alexandra.storage import json_bytes, publish_folder

FILE, CONFIG, PREFIX = "adapter_model.safetensors", "adapter_config.json", "base_model.model."
PLAIN = {
    "use_dora": (False,),
    "use_qalora": (False,),
    "bias": ("none",),
    "modules_to_save": (),
    "rank_pattern": ({},),
    "alpha_pattern": ({},),
    "layer_replication": (),
    "trainable_token_indices": (),
    "target_parameters": (),
    "lora_bias": (False,),
}


@dataclass(frozen=True)
class Adapter:
    """Pairs (A [rank, inputs], B [outputs, rank]) by the module of theirs that they belong to, and their factor."""

    pairs: Mapping[str, tuple[np.ndarray, np.ndarray]]
    scale: float
    config: Mapping[str, Any]


def load_adapter(folder: str | Path, base: Pretrained) -> Adapter:
    """Read a PEFT folder for `base`. WeightsError for a module that `base` has not, or a pair that does not fit it."""
    place = Path(folder)
    config = Config(small_json(place, CONFIG), str(place))
    config.only("peft_type", "LORA")
    for key, allowed in PLAIN.items():
        config.only(key, *allowed)
    rank = config.whole("r")
    scale = config.number("lora_alpha", float(rank)) / (sqrt(rank) if config.flag("use_rslora") else rank)
    tensors = tensors_of(place, FILE)
    known = _modules(base)
    pairs: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for name in tensors:
        module = name.removeprefix(PREFIX).removesuffix(".lora_A.weight").removesuffix(".lora_B.weight")
        if module not in known:
            raise WeightsError(f"{str(place)!r}: the base model has no module {module!r}", hint=suggest(module, known))
        a, b = (_tensor(tensors, f"{PREFIX}{module}.lora_{side}.weight") for side in "AB")
        pairs[module] = a, b
    for module, (a, b) in pairs.items():
        outputs, inputs = (
            sum(base.weights[n].shape[0] for n in known[module].ours),
            base.weights[known[module].ours[0]].shape[1],
        )
        if a.shape != (rank, inputs) or b.shape != (outputs, rank):
            shapes = f"{a.shape} and {b.shape}, needs {(rank, inputs)} and {(outputs, rank)}"
            raise WeightsError(f"{str(place)!r}: the pair of {module!r} has shapes {shapes}")
    return Adapter(pairs, scale, config.values)


def merged(base: Pretrained, adapter: Adapter) -> WeightSet:
    """The weights of `base` with the adapter's differences added, in float32."""
    known, patch = _modules(base), {}
    for module, (a, b) in adapter.pairs.items():
        difference = adapter.scale * (b.astype(np.float64) @ a.astype(np.float64))
        at = 0
        for name in known[module].ours:
            rows = base.weights[name].shape[0]
            patch[name] = (base.weights[name] + difference[at : at + rows]).astype(np.float32)
            at += rows
    return base.weights.merge(patch)


def save_adapter(adapter: Adapter, base: Pretrained, folder: str | Path) -> Path:
    """Write a folder that PEFT loads on top of `base`."""
    stored: dict[str, Stored] = {}
    for module, pair in adapter.pairs.items():
        for side, array in zip("AB", pair, strict=True):
            stored[f"{PREFIX}{module}.lora_{side}.weight"] = "F32", array.shape, encoded(array, "F32")
    rank = next(iter(adapter.pairs.values()))[0].shape[0]
    turned = any(place.how.endswith("turned") for module, place in _modules(base).items() if module in adapter.pairs)
    targets = sorted({module.rpartition(".")[2] for module in adapter.pairs})
    made = {"r": rank, "lora_alpha": adapter.scale * rank, "target_modules": targets, "fan_in_fan_out": turned}
    plain = {"peft_type": "LORA", "bias": "none", "task_type": "CAUSAL_LM", "inference_mode": True}
    config = dict(adapter.config) or {**plain, **made}
    data = tensor_files(stored, 2**62)[WEIGHTS]
    publish_folder(Path(folder), {CONFIG: json_bytes(config), FILE: data})
    return Path(folder)


def _modules(base: Pretrained) -> dict[str, Place]:
    """The linear modules of theirs by name."""
    config = Config(base.config, base.graph.name)
    places = family_of(config).places(config, {*base.dtypes, *base.spare})
    found = {}
    for place in places:
        linear = place.how != "stacked" and base.weights[place.ours[0]].ndim == 2
        if linear and len(place.theirs) == 1 and place.theirs[0].endswith(".weight"):
            found[place.theirs[0].removesuffix(".weight")] = place
    return found


def _tensor(tensors: Mapping[str, Any], name: str) -> np.ndarray:
    if name not in tensors:
        raise WeightsError(f"the adapter has no tensor {name!r}")
    array = tensors[name].array()
    assert isinstance(array, np.ndarray)
    return array
