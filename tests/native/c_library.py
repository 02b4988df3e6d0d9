"""libalexandra through ctypes, for tests: the declarations of include/alexandra.h once more."""

import ctypes
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
OK, INVALID, UNSUPPORTED, OUT_OF_MEMORY, NOT_FINITE, FILE, INTERNAL = range(7)
INPUT, OUTPUT, PARAMETER = range(3)


class Options(ctypes.Structure):
    _fields_ = [
        ("threads", ctypes.c_int),
        ("isa", ctypes.c_char_p),
        ("seed", ctypes.c_int64),
        ("trust_file", ctypes.c_int),
    ]


class Info(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char_p),
        ("num_axes", ctypes.c_int),
        ("axes", ctypes.c_int64 * 4),
        ("values", ctypes.c_int64),
        ("is_int32", ctypes.c_int),
        ("below", ctypes.c_int64),
    ]


class Sizes(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_size_t) for name in ("weights", "arena", "gradients", "optimizer")),
        ("weights_mapped", ctypes.c_int),
    ]


class Program(ctypes.Structure):
    _fields_ = [
        ("objective", ctypes.c_int),
        ("label_smoothing", ctypes.c_double),
        ("optimizer", ctypes.c_int),
        *((n, ctypes.c_double) for n in ("lr", "beta1", "beta2", "eps", "weight_decay", "momentum", "l1")),
        ("decay", ctypes.c_int),
        *((name, ctypes.c_int64) for name in ("warmup_steps", "total_steps", "every")),
        ("final_factor", ctypes.c_double),
        ("decay_factor", ctypes.c_double),
        ("batch_size", ctypes.c_int),
        ("accumulate", ctypes.c_int),
        ("clip_norm", ctypes.c_double),
        ("shuffle", ctypes.c_int),
        ("seed", ctypes.c_int64),
    ]


def path() -> Path:
    """The built library; skips where there is none (`make native` builds it)."""
    found = Path(os.environ.get("ALEXANDRA_C_LIBRARY", ROOT / "build/native/libalexandra.so"))
    if not found.exists():
        pytest.skip(f"the C library is not built: no {found}")
    return found


class Library:
    """The functions of alexandra.h; a status other than OK is a CError."""

    def __init__(self) -> None:
        self.c = ctypes.CDLL(str(path()))
        self.c.alexandra_error.restype = self.c.alexandra_version.restype = ctypes.c_char_p
        self.c.alexandra_free.argtypes = [ctypes.c_void_p]
        self.c.alexandra_free.restype = None

    def error(self) -> str:
        return self.c.alexandra_error().decode(errors="replace")

    def call(self, name: str, *arguments: object) -> None:
        status = getattr(self.c, f"alexandra_{name}")(*arguments)
        if status != OK:
            raise CError(status, self.error())

    def load(self, plan: bytes, weights: Path | None = None, **options: object) -> "CModel":
        model = ctypes.c_void_p()
        given = Options(**options)
        file = None if weights is None else str(weights).encode()
        self.call("load", plan, ctypes.c_size_t(len(plan)), file, ctypes.byref(given), ctypes.byref(model))
        return CModel(self, model)


class CError(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def pointers(arrays: Sequence[np.ndarray]) -> ctypes.Array:
    return (ctypes.c_void_p * len(arrays))(*[array.ctypes.data for array in arrays])


class CModel:
    def __init__(self, library: Library, handle: ctypes.c_void_p) -> None:
        self.library, self.handle = library, handle
        self.kept: list[np.ndarray] = []

    def __del__(self) -> None:
        self.library.c.alexandra_free(self.handle)

    def call(self, name: str, *arguments: object) -> None:
        self.library.call(name, self.handle, *arguments)

    def describe(self, kind: int) -> list[Info]:
        found = []
        while True:
            info = Info()
            try:
                self.call("describe", kind, len(found), ctypes.byref(info))
            except CError:
                return found
            found.append(info)

    def forward(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        rows = len(inputs[0])
        outputs = [np.full((rows, *info.axes[: info.num_axes]), np.nan, np.float32) for info in self.describe(OUTPUT)]
        self.call("forward", ctypes.c_int64(rows), pointers(inputs), pointers(outputs))
        return outputs

    def train(self, program: Program, inputs: Sequence[np.ndarray], targets: Sequence[np.ndarray]) -> None:
        self.kept = [*inputs, *targets]
        rows = ctypes.c_int64(len(inputs[0]))
        self.call("train", ctypes.byref(program), rows, pointers(inputs), pointers(targets))

    def step(self, steps: int) -> np.ndarray:
        losses = np.full(steps, np.nan)
        self.call("step", ctypes.c_int64(steps), losses.ctypes.data_as(ctypes.c_void_p))
        return losses

    def read(self) -> dict[str, np.ndarray]:
        arrays = {}
        for index, info in enumerate(self.describe(PARAMETER)):
            array = np.empty(info.axes[: info.num_axes], np.float32)
            self.call("read", index, array.ctypes.data_as(ctypes.c_void_p))
            arrays[info.name.decode()] = array
        return arrays

    def sizes(self) -> Sizes:
        sizes = Sizes()
        self.call("memory", ctypes.byref(sizes))
        return sizes
