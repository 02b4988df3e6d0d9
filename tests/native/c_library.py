"""libalexandra through ctypes, for tests: the declarations of include/alexandra.h once more."""

import ctypes
import os
import shutil
import subprocess
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
        *((name, ctypes.c_size_t) for name in ("weights", "arena", "gradients", "optimizer", "cache")),
        ("weights_mapped", ctypes.c_int),
    ]


class Sampling(ctypes.Structure):
    _fields_ = [
        ("max_tokens", ctypes.c_int),
        ("temperature", ctypes.c_float),
        ("top_k", ctypes.c_int),
        ("top_p", ctypes.c_float),
        ("repetition_penalty", ctypes.c_float),
        ("ignore_end", ctypes.c_int),
        ("stops", ctypes.POINTER(ctypes.c_char_p)),
        ("num_stops", ctypes.c_int),
        ("seed", ctypes.c_int64),
    ]


class Row(ctypes.Structure):
    _fields_ = [
        ("prompt", ctypes.POINTER(ctypes.c_int32)),
        ("prompt_tokens", ctypes.c_int),
        ("tokens", ctypes.POINTER(ctypes.c_int32)),
        ("logprobs", ctypes.POINTER(ctypes.c_float)),
        ("num_tokens", ctypes.c_int),
        ("finish", ctypes.c_int),
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


def compiled(name: str, folder: Path, *more: str) -> Path:
    """An example of examples/c as a program, with every warning an error; `more` are flags of gcc."""
    if shutil.which("gcc") is None:
        pytest.skip("no gcc")
    library, out = path(), folder / name
    flags = ["-std=c11", "-O1", "-Wall", "-Wextra", "-Werror", "-pedantic", *more, f"-I{ROOT / 'include'}"]
    source = ROOT / "examples/c" / f"{name}.c"
    link = [f"-L{library.parent}", "-lalexandra", f"-Wl,-rpath,{library.parent}", "-lm"]
    subprocess.run(["gcc", *flags, str(source), "-o", str(out), *link], check=True)
    return out


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

    def decode(self, prompts: Sequence[Sequence[int]], **settings: object) -> list[tuple[list[int], list[float], int]]:
        """Tokens, their logarithms and why it ended, for each prompt."""
        stops = [text.encode() for text in settings.pop("stops", ())]
        given = Sampling(**settings, stops=(ctypes.c_char_p * len(stops))(*stops), num_stops=len(stops))
        rows, room = (Row * len(prompts))(), given.max_tokens or 64
        for row, prompt in zip(rows, prompts, strict=True):
            row.prompt, row.prompt_tokens = (ctypes.c_int32 * len(prompt))(*prompt), len(prompt)
            row.tokens, row.logprobs = (ctypes.c_int32 * room)(), (ctypes.c_float * room)()
        self.call("decode", rows, len(rows), ctypes.byref(given))
        return [(row.tokens[: row.num_tokens], row.logprobs[: row.num_tokens], row.finish) for row in rows]

    def text(self, token: int) -> bytes:
        found, size = ctypes.c_void_p(), ctypes.c_size_t()
        self.call("text", token, ctypes.byref(found), ctypes.byref(size))
        return ctypes.string_at(found, size.value)

    def sizes(self) -> Sizes:
        sizes = Sizes()
        self.call("memory", ctypes.byref(sizes))
        return sizes
