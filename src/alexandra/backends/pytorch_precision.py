"""Training in fewer bits on torch: autocast over float32 weights and moments, loss scaling, float8 by torchao.

bf16 and fp16 cast inside torch.autocast; weights, gradients, moments and losses stay float32 (Micikevicius et al.,
2018, "Mixed precision training"). fp16 scales the loss, since its smallest numbers are 6e-8. fp8 is bf16 whose large
linear layers multiply in float8 (torchao.float8, tensor-wise scales that are found anew in every step).
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from alexandra.backends.base import PRECISIONS
from alexandra.errors import BackendError, suggest

CAST = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp8": torch.bfloat16}
FLOAT8_CAPABILITY = (8, 9)  # Ada and Hopper
FLOAT8_MULTIPLE = 16  # sizes that float8 products take
FIRST_SCALE, GROWTH_STEPS = 2.0**16, 2000
SCALE = "scale/"


def casting(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    """What a forward runs in; nothing for float32."""
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, dtype=CAST[precision])


def prepare(module: nn.Module, precision: str, device: torch.device) -> None:
    """Check that `precision` can run here; for fp8 put torchao's layers in the place of linear ones. BackendError."""
    if precision not in PRECISIONS:
        raise BackendError(f"unknown precision {precision!r}", hint=suggest(precision, PRECISIONS))
    if precision != "fp8":
        return
    if find_spec("torchao") is None:
        raise BackendError("precision 'fp8' needs torchao, which is not installed", hint="pip install torchao")
    if device.type != "cuda" or torch.cuda.get_device_capability(device) < FLOAT8_CAPABILITY:
        what = torch.cuda.get_device_name(device) if device.type == "cuda" else f"device {device.type!r}"
        raise BackendError(
            f"precision 'fp8' needs a GPU of compute capability {FLOAT8_CAPABILITY[0]}.{FLOAT8_CAPABILITY[1]}, "
            f"this is {what}",
            hint="precision='bf16' runs on every device",
        )
    import_module("torchao.float8").convert_to_float8_training(module, module_filter_fn=takes_float8)


def takes_float8(layer: nn.Module, name: str) -> bool:
    """Linear layers of suitable sizes; adapters stay as they are."""
    if not isinstance(layer, nn.Linear) or "lora_" in name:
        return False
    return layer.in_features % FLOAT8_MULTIPLE == 0 and layer.out_features % FLOAT8_MULTIPLE == 0


class LossScale:
    """The factor on the loss of fp16: halved when a gradient overflows, doubled after GROWTH_STEPS good steps."""

    def __init__(self) -> None:
        self.factor, self.good = FIRST_SCALE, 0

    def keeps(self, norm: Tensor) -> bool:
        """Whether a step with this norm of the gradient counts. BackendError when even factor 1 overflows."""
        if bool(torch.isfinite(norm)):
            self.good += 1
            if self.good % GROWTH_STEPS == 0:
                self.factor *= 2.0
            return True
        if self.factor <= 1.0:
            raise BackendError("gradients overflow in fp16, unscaled too", hint="precision='bf16' has float32's range")
        self.factor, self.good = self.factor / 2.0, 0
        return False

    def arrays(self) -> dict[str, np.ndarray]:
        """What decides the future, part of a run's state."""
        return {f"{SCALE}factor": np.array(self.factor), f"{SCALE}good": np.array(self.good, np.int64)}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        self.factor, self.good = float(arrays[f"{SCALE}factor"]), int(arrays[f"{SCALE}good"])
