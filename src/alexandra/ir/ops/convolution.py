"""Rows of the op table: convolution and pooling over images [H, W, C], channels last.

`Window` holds the numbers of one call, resolved: every backend reads them from here. Padding "same" is torch's:
dilation * (kernel - 1) in all, the smaller half first. An axis whose kernel is 1 is never padded.
"""

from __future__ import annotations

from dataclasses import dataclass

from alexandra.errors import GraphError
from alexandra.ir.graph import Attr, TensorType
from alexandra.ir.ops.layers import BIAS, SIZE
from alexandra.ir.ops.rules import bound_dim, dim, floats, multiple, size_of, whole
from alexandra.ir.ops.spec import Attrs, AttrSpec, Dim, OpSpec, ParamSpec, Types

KERNEL = AttrSpec(("int", "shape"), "size of the window, one number or (height, width)", 3, low=1)
STRIDE = AttrSpec(("int", "shape"), "steps of the window, one number or (down, right)", 1, low=1)
PADDING = AttrSpec(
    ("int", "str"), "zeros around: same, valid (none) or a number", "same", allowed=("same", "valid"), low=0
)
DILATION = AttrSpec(("int",), "distance of neighbours in the window", 1, low=1)
GROUPS = AttrSpec(("int",), "channels are cut into that many groups, each with its own filters", 1, low=1)
POOL_KERNEL = AttrSpec(("int", "shape"), "size of the window, one number or (height, width)", 2, low=1)
POOL_STRIDE = AttrSpec(("int", "shape", "none"), "steps of the window; none: its size", None, low=1)
POOL_PADDING = AttrSpec(("int",), "rows and columns around: minus infinity for max, counted zeros for mean", 0, low=0)
POOL_KIND = AttrSpec(("str",), "what becomes of a window", "max", allowed=("max", "mean"))


@dataclass(frozen=True)
class Window:
    """A moving window in numbers, each (down, right): its size, steps, dilation, and padding before and after."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: int
    before: tuple[int, int]
    after: tuple[int, int]

    def out(self, size: Dim, axis: int) -> Dim:
        """How many places there are along an axis of `size`."""
        reach = self.dilation * (self.kernel[axis] - 1)
        pad = self.before[axis] + self.after[axis]
        if isinstance(size, int):
            if size + pad <= reach:
                raise GraphError(f"needs at least {reach + 1 - pad} along axis {axis}, got {size}")
            return (size + pad - reach - 1) // self.stride[axis] + 1
        if pad == reach and self.stride[axis] == 1:
            return size
        raise GraphError(
            f"changes the length of the open axis {size}", hint="use padding=same with stride=1, or bind the axis first"
        )


def window_of(attrs: Attrs) -> Window:
    """The window of a conv2d or a pool2d."""
    kernel = _pair(attrs["kernel"])
    stride = kernel if attrs["stride"] is None else _pair(attrs["stride"])
    dilation, padding = whole(attrs.get("dilation", 1)), attrs["padding"]
    if padding == "same":
        totals = [dilation * (k - 1) for k in kernel]
        before = totals[0] // 2, totals[1] // 2
        return Window(kernel, stride, dilation, before, (totals[0] - before[0], totals[1] - before[1]))
    pad = 0 if padding == "valid" else whole(padding)
    sides = pad * (kernel[0] > 1), pad * (kernel[1] > 1)
    return Window(kernel, stride, dilation, sides, sides)


def _pair(value: Attr) -> tuple[int, int]:
    if isinstance(value, tuple):
        if len(value) != 2 or not all(isinstance(item, int) for item in value):
            raise GraphError(f"needs one number or two, got {value}")
        return int(value[0]), int(value[1])
    return whole(value), whole(value)


def _image(given: TensorType) -> TensorType:
    if len(floats(given).shape) != 3:
        raise GraphError(f"needs an image (height, width, channels), got {given}")
    return given


def _conv2d(attrs: Attrs, types: Types) -> TensorType:
    height, width, channels = _image(types[0]).shape
    window, groups = window_of(attrs), whole(attrs["groups"])
    multiple(channels, groups, "a number of channels")
    multiple(dim(attrs["size"]), groups, "a size")
    return TensorType((window.out(height, 0), window.out(width, 1), dim(attrs["size"])))


def _conv2d_params(attrs: Attrs, types: Types) -> dict[str, ParamSpec]:
    (down, right), size = window_of(attrs).kernel, whole(attrs["size"])
    channels = bound_dim(types[0].shape[2], "the number of channels") // whole(attrs["groups"])
    area = down * right
    weight = ParamSpec((size, down, right, channels), "glorot", area * channels, area * size // whole(attrs["groups"]))
    return {"weight": weight, "bias": ParamSpec((size,), "zeros")} if attrs["bias"] else {"weight": weight}


def _conv2d_flops(attrs: Attrs, types: Types, out: TensorType) -> int:
    down, right = window_of(attrs).kernel
    channels = bound_dim(types[0].shape[2], "the number of channels") // whole(attrs["groups"])
    return 2 * size_of(out) * down * right * channels


def _pool2d(attrs: Attrs, types: Types) -> TensorType:
    height, width, channels = _image(types[0]).shape
    window = window_of(attrs)
    if any(2 * pad > size for pad, size in zip(window.before, window.kernel, strict=True)):
        raise GraphError(f"has padding={attrs['padding']}, more than half of its window {window.kernel}")
    return TensorType((window.out(height, 0), window.out(width, 1), channels))


ROWS = (
    OpSpec(
        "conv2d",
        "Filters moved over an image; weight is (size, height, width, channels / groups).",
        1,
        None,
        {
            "size": SIZE,
            "kernel": KERNEL,
            "stride": STRIDE,
            "padding": PADDING,
            "dilation": DILATION,
            "groups": GROUPS,
            "bias": BIAS,
        },
        _conv2d,
        _conv2d_params,
        _conv2d_flops,
        joins=True,
    ),
    OpSpec(
        "pool2d",
        "The maximum or the mean of each channel within a window moved over an image.",
        1,
        None,
        {"kind": POOL_KIND, "kernel": POOL_KERNEL, "stride": POOL_STRIDE, "padding": POOL_PADDING},
        _pool2d,
        joins=True,
    ),
)
