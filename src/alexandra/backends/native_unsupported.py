"""The primitives that the native engine does not have yet; it refuses them by name, and "auto" goes past it."""

UNSUPPORTED = (
    "gelu_tanh",
    "batchnorm",
    "scale",
    "transpose",
    "reduce",
    "matmul",
    "position",
    "rope",
    "sdpa",
    "top_k_gate",
    "experts",
    "conv2d",
    "pool2d",
    "rnn",
    "lstm",
    "gru",
)
