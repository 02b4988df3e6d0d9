"""One forward and one backward per primitive in float64 NumPy: the meaning that every backend is compared with.

Written to be read, not to be fast: a backward recomputes what it needs from the inputs. KERNELS is the table; an op
of ir.ops.PRIMITIVES without a row fails the parity suite. The kernels stand in the modules of their kind.
"""

from __future__ import annotations

from alexandra.backends import reference_attention as attention
from alexandra.backends import reference_convolution as convolution
from alexandra.backends import reference_elementwise as elementwise
from alexandra.backends import reference_experts as experts
from alexandra.backends import reference_recurrent as recurrent
from alexandra.backends import reference_shaping as shaping
from alexandra.backends.reference_call import F64, Backward, Call, Forward, Grads
from alexandra.backends.reference_elementwise import sigmoid

__all__ = ["F64", "KERNELS", "Backward", "Call", "Forward", "Grads", "sigmoid"]

KERNELS: dict[str, tuple[Forward, Backward]] = {
    "output": (elementwise.output_forward, elementwise.output_backward),
    "dense": (elementwise.dense_forward, elementwise.dense_backward),
    "embedding": (elementwise.embedding_forward, elementwise.embedding_backward),
    "relu": (elementwise.relu_forward, elementwise.relu_backward),
    "leaky_relu": (elementwise.leaky_relu_forward, elementwise.leaky_relu_backward),
    "elu": (elementwise.elu_forward, elementwise.elu_backward),
    "gelu": (elementwise.gelu_forward, elementwise.gelu_backward),
    "gelu_tanh": (elementwise.gelu_tanh_forward, elementwise.gelu_tanh_backward),
    "silu": (elementwise.silu_forward, elementwise.silu_backward),
    "sigmoid": (elementwise.sigmoid_forward, elementwise.sigmoid_backward),
    "tanh": (elementwise.tanh_forward, elementwise.tanh_backward),
    "softplus": (elementwise.softplus_forward, elementwise.softplus_backward),
    "softmax": (elementwise.softmax_forward, elementwise.softmax_backward),
    "layernorm": (elementwise.layernorm_forward, elementwise.layernorm_backward),
    "rmsnorm": (elementwise.rmsnorm_forward, elementwise.rmsnorm_backward),
    "batchnorm": (elementwise.batchnorm_forward, elementwise.batchnorm_backward),
    "scale": (elementwise.scale_forward, elementwise.scale_backward),
    "dropout": (elementwise.dropout_forward, elementwise.dropout_backward),
    "add": (elementwise.add_forward, elementwise.add_backward),
    "mul": (elementwise.mul_forward, elementwise.mul_backward),
    "concat": (shaping.concat_forward, shaping.concat_backward),
    "reshape": (shaping.reshape_forward, shaping.reshape_backward),
    "slice": (shaping.slice_forward, shaping.slice_backward),
    "select": (shaping.select_forward, shaping.select_backward),
    "transpose": (shaping.transpose_forward, shaping.transpose_backward),
    "reduce": (shaping.reduce_forward, shaping.reduce_backward),
    "matmul": (shaping.matmul_forward, shaping.matmul_backward),
    "position": (attention.position_forward, attention.position_backward),
    "rope": (attention.rope_forward, attention.rope_backward),
    "sdpa": (attention.sdpa_forward, attention.sdpa_backward),
    "top_k_gate": (experts.top_k_gate_forward, experts.top_k_gate_backward),
    "experts": (experts.experts_forward, experts.experts_backward),
    "conv2d": (convolution.conv2d_forward, convolution.conv2d_backward),
    "pool2d": (convolution.pool2d_forward, convolution.pool2d_backward),
    "rnn": (recurrent.rnn_forward, recurrent.rnn_backward),
    "lstm": (recurrent.lstm_forward, recurrent.lstm_backward),
    "gru": (recurrent.gru_forward, recurrent.gru_backward),
}
