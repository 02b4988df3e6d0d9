"""The quantiser and dequantiser are those of ggml, bit for bit."""

import numpy as np
import pytest

from alexandra.backends.quant import TYPES, StoredTensor, bytes_of, quantize
from alexandra.errors import BackendError
from alexandra.rng import derive


def samples() -> np.ndarray:
    """Blocks of every size of number, zeros, single spikes, ties of the largest magnitude, and halves of steps."""
    noise = derive(0, "blocks").normal(32 * 4000).reshape(-1, 32)
    noise *= 10.0 ** (derive(0, "scale").uniform(4000)[:, None] * 12 - 8)
    special = np.zeros((6, 32))
    special[1, 7], special[2, 9], special[3, 3:5] = 3.0, -2.5, (1.0, -1.0)
    special[4], special[5] = -0.0, np.arange(32) / 2 - 8
    grid = np.round(derive(0, "grid").normal(32 * 500).reshape(-1, 32) * 4) / 2
    return np.concatenate([noise, special, grid]).astype(np.float32)


@pytest.mark.parametrize("kind", TYPES)
def test_blocks_are_those_of_the_gguf_package_bit_for_bit(kind: str) -> None:
    gguf = pytest.importorskip("gguf")
    peer = gguf.GGMLQuantizationType[kind]
    values = samples()
    with np.errstate(over="ignore"):
        wanted = gguf.quants.quantize(values, peer)
    made = quantize(values, kind)
    assert made.data.tobytes() == np.ascontiguousarray(wanted).tobytes()
    back = gguf.quants.dequantize(np.ascontiguousarray(wanted), peer)
    assert made.array().tobytes() == np.ascontiguousarray(back, np.float32).tobytes()


@pytest.mark.parametrize(("kind", "share"), [("Q8_0", 0.5 / 127), ("Q4_0", 1 / 8)])
def test_no_value_moves_further_than_its_step(kind: str, share: float) -> None:
    values = derive(1, "values").normal(32 * 1000).reshape(-1, 32).astype(np.float32)
    largest = np.abs(values).max(axis=1, keepdims=True)
    error = np.abs(quantize(values, kind).array() - values)
    assert (error <= largest * (share + 1e-3)).all()
    assert (error > largest * share / 20).mean() > 0.5  # and it does round


def test_values_that_no_block_can_hold_are_refused_by_name() -> None:
    values = np.ones((1, 32), np.float32)
    values[0, 3] = np.nan
    with pytest.raises(BackendError, match=r"blk.w: cannot quantise nan"):
        quantize(values, "Q4_0", "blk.w")
    with pytest.raises(BackendError, match="beyond half precision"):
        quantize(np.full((1, 32), 1e9, np.float32), "Q8_0")
    with pytest.raises(BackendError, match=r"(?s)must be a multiple of 32.*keep it as F32"):
        bytes_of("Q4_0", (4, 33))
    with pytest.raises(BackendError, match=r"(?s)'Q5_K' is not known.*Q8_0"):
        quantize(values, "Q5_K")


def test_a_stored_tensor_says_its_rows() -> None:
    tensor = StoredTensor("w", "F32", (2, 3, 4), np.zeros(96, np.uint8))
    assert (tensor.rows, tensor.cols) == (6, 4)
