"""Convolution, pooling, batch norm and recurrent layers on torch, with the parameters of the op table.

Images are [B, H, W, C]; torch's own kernels see them as channels-last views, not as copies. What these layers need of
a pass (training or not, where new running statistics go) is in passing.py.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from alexandra.ir.graph import Node
from alexandra.ir.ops.convolution import window_of
from alexandra.ir.ops.rules import number, whole
from alexandra.nn.passing import Pass


def conv2d(node: Node, owner: nn.Module | None, inputs: tuple[Tensor, ...], now: Pass) -> Tensor:
    assert owner is not None
    window = window_of(node.attrs)
    weight = owner.get_parameter("weight").permute(0, 3, 1, 2)
    bias = owner.get_parameter("bias") if node.attrs["bias"] else None
    x_BCHW, padding = inputs[0].permute(0, 3, 1, 2), window.before
    if window.before != window.after:
        x_BCHW = F.pad(x_BCHW, (window.before[1], window.after[1], window.before[0], window.after[0]))
        padding = (0, 0)
    groups = whole(node.attrs["groups"])
    y_BOHW = F.conv2d(x_BCHW, weight, bias, window.stride, padding, window.dilation, groups)
    return y_BOHW.permute(0, 2, 3, 1)


def pool2d(node: Node, owner: nn.Module | None, inputs: tuple[Tensor, ...], now: Pass) -> Tensor:
    window = window_of(node.attrs)
    pool = F.max_pool2d if node.attrs["kind"] == "max" else F.avg_pool2d
    return pool(inputs[0].permute(0, 3, 1, 2), window.kernel, window.stride, window.before).permute(0, 2, 3, 1)


def batchnorm(node: Node, owner: nn.Module | None, inputs: tuple[Tensor, ...], now: Pass) -> Tensor:
    assert owner is not None
    x, eps, momentum = inputs[0], number(node.attrs["eps"]), number(node.attrs["momentum"])
    weight, bias, mean, variance = (owner.get_parameter(name) for name in ("weight", "bias", "mean", "variance"))
    if not now.training:
        return (x - mean) * torch.rsqrt(variance + eps) * weight + bias
    flat = x.reshape(-1, x.shape[-1])
    batch_mean, batch_variance = flat.mean(0), flat.var(0, correction=0)
    unbiased = batch_variance * len(flat) / max(1, len(flat) - 1)
    for name, running, newest in (("mean", mean, batch_mean), ("variance", variance, unbiased)):
        full = f"{node.owner}.{name}"
        now.moved[full] = torch.lerp(now.moved.get(full, running.detach()), newest.detach(), momentum)
    return (x - batch_mean) * torch.rsqrt(batch_variance + eps) * weight + bias


def recurrent(node: Node, owner: nn.Module | None, inputs: tuple[Tensor, ...], now: Pass) -> Tensor:
    """torch's fused cells; its second bias is 0 but for a GRU's n."""
    assert owner is not None
    x_BSI, size = inputs[0], whole(node.attrs["size"])
    x_BSI = x_BSI.flip(1) if node.attrs["reverse"] else x_BSI
    bias = owner.get_parameter("bias")
    second = torch.zeros_like(bias)
    if node.op == "gru":
        second = torch.cat((second[: 2 * size], owner.get_parameter("hidden_bias")))
    weights = [owner.get_parameter("input"), owner.get_parameter("hidden"), bias, second]
    start = x_BSI.new_zeros(1, len(x_BSI), size)
    settings = (weights, True, 1, 0.0, torch.is_grad_enabled(), False, True)
    if node.op == "lstm":
        states_BSH, *_ = torch.lstm(x_BSI, (start, start), *settings)
    elif node.op == "gru":
        states_BSH, _ = torch.gru(x_BSI, start, *settings)
    else:
        cell = torch.rnn_tanh if node.attrs["activation"] == "tanh" else torch.rnn_relu
        states_BSH, _ = cell(x_BSI, start, *settings)
    if node.attrs["last"]:
        return states_BSH[:, -1]
    return states_BSH.flip(1) if node.attrs["reverse"] else states_BSH
