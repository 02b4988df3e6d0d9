"""Attention on torch: blocks of queries give what all pairs at once give, in memory that grows with the window."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from alexandra.backends.bind import bind  # noqa: E402
from alexandra.backends.pytorch import TorchModel, module  # noqa: E402
from alexandra.ir.build import Builder, Layer  # noqa: E402
from alexandra.ir.graph import Attr, Graph  # noqa: E402
from alexandra.ir.weights import initialise  # noqa: E402
from alexandra.nn import attention  # noqa: E402
from alexandra.objectives.spec import MSE, SGD, Program  # noqa: E402
from alexandra.rng import derive  # noqa: E402


def network(segments: bool = False, **attrs: Attr) -> Graph:
    build = Builder()
    x = build.input("x", ("S", 8))
    more = [build.input("segments", ("S",), "int32")] if segments else []
    build.output("y", build.layer(Layer("attention", heads=2, kv_heads=1, **attrs), x, *more, name="a"))
    return build.graph()


PATTERNS = [
    {},
    {"window": 3},
    {"window": 3, "causal": False},
    {"window": 2, "globals": 2, "stride": 5},
    {"window": 2, "globals": 3, "causal": False},
    {"relative_buckets": 8, "relative_distance": 9},
    {"softcap": 3.0, "window": 4},
]


@pytest.mark.parametrize("segments", [False, True])
@pytest.mark.parametrize("attrs", PATTERNS, ids=str)
def test_blocks_of_queries_change_nothing(
    attrs: dict[str, Attr], segments: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = network(segments, **attrs)
    weights = initialise(graph, 1)
    inputs = {"x": derive(0, "x").normal(2 * 23 * 8).reshape(2, 23, 8).astype(np.float32)}
    if segments:
        inputs["segments"] = np.sort(derive(0, "s").below(4, 46).reshape(2, 23)).astype(np.int32)
    monkeypatch.setattr(attention, "BLOCK", 4)
    monkeypatch.setattr(attention, "RECOMPUTED", 1)
    ours, wanted = TorchModel(graph, weights), bind(graph, "reference", weights)
    np.testing.assert_allclose(ours.forward(inputs)["y"], wanted.forward(inputs)["y"], atol=1e-5)
    target = derive(0, "t").normal(2 * 23 * 8).reshape(2, 23, 8)
    loss, grads = ours.loss_and_grads(inputs, target, MSE())
    their_loss, their_grads = wanted.loss_and_grads(inputs, target, MSE())
    assert loss == pytest.approx(their_loss, rel=1e-5)
    for name, gradient in their_grads.items():
        np.testing.assert_allclose(grads[name], gradient, atol=1e-5)


def test_a_windowed_call_makes_no_tensor_of_all_pairs() -> None:
    from torch.utils._python_dispatch import TorchDispatchMode

    class Largest(TorchDispatchMode):
        size = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            result = func(*args, **(kwargs or {}))
            for value in result if isinstance(result, tuple | list) else [result]:
                if isinstance(value, torch.Tensor):
                    Largest.size = max(Largest.size, value.numel())
            return result

    found = module(network(window=64, globals=4)).train()
    with Largest():
        found({"x": torch.randn(1, 4096, 8)})["y"].sum().backward()
    assert Largest.size <= 2 * attention.BLOCK * (attention.BLOCK + 64 + 4) < 4096 * 4096 / 16


def stacked(blocks: int) -> Graph:
    build = Builder()
    h = build.layer(Layer("dense", size=16), build.input("x", ("S", 8)), name="stem")
    for number in range(blocks):
        a = build.layer(Layer("attention", heads=2, rope=True), build.layer(Layer("rmsnorm"), h), name=f"a{number}")
        h = build.layer(Layer("add"), h, a)
        gate = {"experts": 4, "top_k": 2, "hidden": 8, "balance": 0.1, "selection_bias": True, "jitter": 0.1}
        m = build.layer(Layer("moe", **gate), build.layer(Layer("batchnorm"), h), name=f"m{number}")
        h = build.layer(Layer("dropout", rate=0.1), build.layer(Layer("add"), h, m), name=f"d{number}")
    build.output("y", h, size=3)
    return build.graph()


def test_checkpointed_training_is_the_same_training() -> None:
    graph = stacked(3)
    weights = initialise(graph, 1)
    x = derive(0, "x").normal(4 * 5 * 8).reshape(4, 5, 8).astype(np.float32)
    target = derive(0, "t").normal(60).reshape(4, 5, 3)
    ends = []
    for again in (False, True):
        model = TorchModel(graph, weights, checkpoint=again)
        state = model.start(Program(MSE(), SGD(0.1), batch_size=2), {"x": x}, target)
        ends.append((model.run(state, 6), model.weights))
    np.testing.assert_allclose(ends[1][0], ends[0][0], rtol=1e-6)
    for name, array in ends[0][1].items():
        np.testing.assert_allclose(ends[1][1][name], array, atol=1e-6, err_msg=name)


def test_untrained_parameters_move_by_their_own_rule_and_equal_the_reference() -> None:
    graph = stacked(2)
    weights = initialise(graph, 1)
    x = derive(0, "x").normal(6 * 5 * 8).reshape(6, 5, 8).astype(np.float32)
    target = derive(0, "t").normal(90).reshape(6, 5, 3)
    models = [bind(graph, backend, weights) for backend in ("reference", "torch")]
    losses = []
    for model in models:
        state = model.start(Program(MSE(), SGD(0.1, weight_decay=0.1), batch_size=2), {"x": x}, target)
        losses.append(model.run(state, 7))
        assert {name for name, g in model.loss_and_grads({"x": x}, target, MSE())[1].items() if not g.any()} >= {
            "m0.top_k.bias",
            "batchnorm_1.mean",
        }
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4)
    for name, array in models[0].weights.items():
        np.testing.assert_allclose(models[1].weights[name], array, atol=2e-5, err_msg=name)
    bias = models[0].weights["m0.top_k.bias"]
    assert 1e-3 <= np.abs(bias).max() <= 7.5e-3 and models[0].weights["batchnorm_1.mean"].any()


def test_a_module_on_meta_allocates_nothing_and_a_trained_one_leaves_the_gates_loss() -> None:
    graph = stacked(1)
    assert all(p.is_meta for p in module(graph, device="meta").parameters())
    found = module(graph)
    found({"x": torch.randn(2, 5, 8)})
    assert found.auxiliary_loss.item() > 0.0
    found.eval()
    before = found.get_parameter_by_name("batchnorm_1.mean").clone()
    found({"x": torch.randn(2, 5, 8)})
    assert torch.equal(found.get_parameter_by_name("batchnorm_1.mean"), before)
