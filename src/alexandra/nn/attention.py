"""Attention and positions on torch: fused where torch has it, in blocks of queries where a pattern needs a mask.

A block reads only the keys that its window, the global positions and (with a stride) everything before it leave, so
no mask of all pairs exists: memory grows with positions * window. Suffixes: B rows, S queries, T keys, H query heads,
K key-value heads, D numbers of a head, C width.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from alexandra.ir.graph import Attr, Node
from alexandra.ir.ops.rules import number, optional, whole
from alexandra.ir.positions import relative_buckets, rope_angles, sinusoidal, visible
from alexandra.nn.passing import Pass

BLOCK = 512  # queries at once, unless the window is wider
RECOMPUTED = 1 << 22  # pairs of positions from which on training forgets a block's mask and makes it again

Items = tuple[tuple[str, Attr], ...]


@lru_cache(maxsize=64)
def _angles(items: Items, span: tuple[int, int], device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    first, count = span
    cos, sin = rope_angles(dict(items), count, first)
    return torch.tensor(cos, device=device).to(dtype), torch.tensor(sin, device=device).to(dtype)


def rope(node: Node, owner: nn.Module | None, inputs: tuple[Tensor, ...], now: Pass) -> Tensor:
    x_BSC, head = inputs[0], whole(node.attrs["head_dim"])
    rows, length, width = x_BSC.shape
    with torch.inference_mode(False):
        cos, sin = _angles(tuple(node.attrs.items()), (now.first, length), x_BSC.device, x_BSC.dtype)
    cos, sin = cos[:, None, :], sin[:, None, :]
    x = x_BSC.reshape(rows, length, -1, head)
    dims = whole(optional(node.attrs["dims"], head))
    turned, rest = x[..., :dims], x[..., dims:]
    if node.attrs["layout"] == "half":
        a, b = turned.chunk(2, dim=-1)
        parts = torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)
    else:
        a, b = turned[..., 0::2], turned[..., 1::2]
        parts = torch.stack((a * cos - b * sin, b * cos + a * sin), dim=-1).flatten(-2)
    return torch.cat((parts, rest), dim=-1).reshape(rows, length, width)


def position(node: Node, owner: nn.Module | None, inputs: tuple[Tensor, ...], now: Pass) -> Tensor:
    x_BSC, first = inputs[0], whole(node.attrs["offset"]) + now.first
    length = x_BSC.shape[1]
    if owner is not None and node.attrs["kind"] == "learned":
        return x_BSC + owner.get_parameter("weight")[first : first + length]
    rows = sinusoidal(length, x_BSC.shape[2], first)
    return x_BSC + torch.tensor(rows, device=x_BSC.device).to(x_BSC.dtype)


def sdpa(node: Node, owner: nn.Module | None, inputs: tuple[Tensor, ...], now: Pass) -> Tensor:
    """Queries of this pass over all keys; with a cache also those of earlier passes (unless they are a memory's)."""
    q_BSC, k_BTC, v_BTC, *segments = inputs
    first = 0
    if now.cache is not None and node.inputs[1] not in now.cache.fixed:
        k_BTC, v_BTC = now.cache.append(node.name, k_BTC, v_BTC)
        first = now.first
    heads = whole(node.attrs["heads"])
    groups = whole(optional(node.attrs["kv_heads"], heads))
    q_BHSD = q_BSC.reshape(*q_BSC.shape[:2], heads, -1).transpose(1, 2)
    k_BKTD, v_BKTD = (x.reshape(*x.shape[:2], groups, -1).transpose(1, 2) for x in (k_BTC, v_BTC))
    call = _Attend(node, owner, segments[0] if segments else None, first)
    call.own = q_BSC.shape[1] + first == k_BTC.shape[1]
    return call(q_BHSD, k_BKTD, v_BKTD).transpose(1, 2).flatten(-2)


class _Attend:
    """One call of sdpa with its attributes read; `first` is the number of the first query."""

    def __init__(self, node: Node, owner: nn.Module | None, segments_BT: Tensor | None, first: int) -> None:
        self.attrs, self.segments_BT, self.first = node.attrs, segments_BT, first
        self.own = True  # whether queries and keys are the same positions
        self.causal, self.window = bool(node.attrs["causal"]), node.attrs["window"]
        self.scale = None if node.attrs["scale"] is None else number(node.attrs["scale"])
        self.softcap = number(node.attrs["softcap"])
        has_bias = owner is not None and bool(node.attrs["relative_buckets"])
        self.relative = owner.get_parameter("relative") if owner is not None and has_bias else None

    def __call__(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        queries, keys = q.shape[2], k.shape[2]
        last = self.first + queries
        fits = self.window is None or max(last, keys) <= whole(self.window)
        if self.segments_BT is None and not self.softcap and self.relative is None and fits:
            if not self.causal or self.first >= keys - 1:
                return self._fused(q, k, v, None)
            if self.first == 0:
                return self._fused(q, k, v, None, causal=True)
        size = max(BLOCK, 0 if self.window is None else whole(self.window))
        if queries <= size:
            return self._block(q, k, v, self.first)
        again = torch.is_grad_enabled() and q.requires_grad and queries * keys >= RECOMPUTED
        parts = []
        for start in range(0, queries, size):
            cut = q[:, :, start : start + size], k, v, self.first + start
            parts.append(checkpoint(self._block, *cut, use_reentrant=False) if again else self._block(*cut))
        return torch.cat(parts, dim=2)

    def _block(self, q: Tensor, k: Tensor, v: Tensor, start: int) -> Tensor:
        """The answers to the queries start .. start + q.shape[2] - 1."""
        rows = np.arange(start, start + q.shape[2])
        columns = self._columns(rows, k.shape[2])
        if len(columns) < k.shape[2]:
            index = torch.tensor(columns, device=k.device)
            k, v = (_pick(x, columns, index) for x in (k, v))
        if not len(columns):
            return q.new_zeros((*q.shape[:3], v.shape[-1])) + 0.0 * q.sum(-1, keepdim=True)
        seen = torch.tensor(visible(self.attrs, rows, columns), device=q.device)[None, None]
        seen = self._segmented(seen, rows, columns)
        bias = None
        if self.relative is not None:
            buckets = torch.tensor(relative_buckets(self.attrs, rows, columns), device=q.device)
            bias = self.relative[buckets].permute(2, 0, 1)[None].to(q.dtype)
        open_rows = seen.any(-1, keepdim=True) if self.segments_BT is not None else None
        if open_rows is not None:
            seen = seen | ~open_rows
        y = self._capped(q, k, v, seen, bias) if self.softcap else self._fused(q, k, v, _additive(seen, bias))
        return y if open_rows is None else y * open_rows.to(y.dtype)

    def _columns(self, rows: np.ndarray, keys: int) -> np.ndarray:
        """The keys that some of these queries may see."""
        first, step = whole(self.attrs["globals"]), whole(self.attrs["stride"])
        end = min(keys, int(rows[-1]) + 1) if self.causal else keys
        if self.window is None or step or rows[0] < first:
            return np.arange(end)
        reach = whole(self.window) - 1
        near = np.arange(max(0, int(rows[0]) - reach), min(end, int(rows[-1]) + reach + 1))
        return np.union1d(np.arange(min(first, end)), near)

    def _segmented(self, seen: Tensor, rows: np.ndarray, columns: np.ndarray) -> Tensor:
        if self.segments_BT is None:
            return seen
        device = self.segments_BT.device
        keys = self.segments_BT[:, torch.tensor(columns, device=device)][:, None, None, :]
        seen = seen & (keys != 0)
        if self.own:
            queries = self.segments_BT[:, torch.tensor(rows, device=device)][:, None, :, None]
            seen = seen & (keys == queries)
        return seen

    def _fused(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool = False) -> Tensor:
        grouped = q.shape[1] != k.shape[1]
        return F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, is_causal=causal, scale=self.scale, enable_gqa=grouped
        )

    def _capped(self, q: Tensor, k: Tensor, v: Tensor, seen: Tensor, bias: Tensor | None) -> Tensor:
        repeats = q.shape[1] // k.shape[1]
        k, v = k.repeat_interleave(repeats, 1), v.repeat_interleave(repeats, 1)
        scale = q.shape[-1] ** -0.5 if self.scale is None else self.scale
        scores = self.softcap * torch.tanh(q @ k.transpose(-1, -2) * (scale / self.softcap))
        scores = scores if bias is None else scores + bias
        return torch.softmax(scores.masked_fill(~seen, float("-inf")), dim=-1) @ v


def _additive(seen: Tensor, bias: Tensor | None) -> Tensor:
    return seen if bias is None else bias.masked_fill(~seen, float("-inf"))


def _pick(x: Tensor, columns: np.ndarray, index: Tensor) -> Tensor:
    """Columns of the third axis; neighbours are a view."""
    if len(columns) and columns[-1] - columns[0] + 1 == len(columns):
        return x[:, :, columns[0] : columns[-1] + 1]
    return x.index_select(2, index)
