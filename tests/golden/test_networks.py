"""The example networks: parameter counts as published, every size compiles, the small ones run and train."""

from __future__ import annotations

import resource
from pathlib import Path

import numpy as np
import pytest

from alexandra.api.programs import CostQuestion, compile_file, format_files
from alexandra.backends.bind import available, bind
from alexandra.errors import GraphError, LanguageError, UsageError
from alexandra.ir import cost
from alexandra.ir.check import bind_sizes, infer
from alexandra.ir.graph import Graph
from alexandra.ir.sharding import sharding_plan
from alexandra.lang.nureon import compile_network
from alexandra.objectives.spec import MSE
from alexandra.rng import derive

NETWORKS = Path(__file__).parents[2] / "examples/networks"

# The counts that transformers' own modules have for these configurations (with BERT's pooler, without its heads).
PARAMETERS = {
    "gpt2": 124_439_808,
    "llama3": 8_030_261_248,
    "qwen3": 596_049_920,
    "mistral": 7_241_732_096,
    "mixtral": 46_702_792_704,
    "deepseek_moe": 16_375_728_128,
    "bert": 109_482_240,
    "roberta": 124_645_632,
    "t5": 60_506_624,
    "lenet": 61_706,
    "foundation": 488_563_676_160,
}
ACTIVE = {"mixtral": 12_879_925_248, "foundation": 12_929_602_560, "gpt2": 124_439_808}
SMALL: dict[str, dict[str, int]] = {
    "gpt2": {"vocab": 31, "width": 16, "layers": 2, "heads": 4},
    "llama3": {"vocab": 31, "width": 16, "layers": 2, "heads": 4, "kv_heads": 2, "hidden": 24},
    "qwen3": {"vocab": 31, "width": 16, "layers": 2, "heads": 4, "kv_heads": 2, "hidden": 24, "head": 6},
    "mistral": {"vocab": 31, "width": 16, "layers": 2, "heads": 4, "kv_heads": 2, "hidden": 24, "window": 3},
    "mixtral": {"vocab": 31, "width": 16, "layers": 2, "heads": 4, "kv_heads": 2, "hidden": 12, "experts": 4},
    "deepseek_moe": {"vocab": 31, "width": 16, "layers": 3, "heads": 4, "dense": 24, "hidden": 6, "experts": 8},
    "foundation": {"vocab": 31, "width": 16, "layers": 2, "heads": 4, "kv_heads": 2, "head": 4, "experts": 4}
    | {"hidden": 8},
    "bert": {"vocab": 31, "width": 16, "layers": 2, "heads": 4},
    "roberta": {"vocab": 31, "width": 16, "layers": 2, "heads": 4},
    "t5": {"vocab": 31, "width": 16, "layers": 2, "heads": 4},
    "lenet": {},
    "lstm": {"width": 6},
}


def network(name: str, **constants: int) -> Graph:
    return compile_network(NETWORKS / f"{name}.nl", constants=constants)


@pytest.mark.parametrize("name", PARAMETERS)
def test_the_published_number_of_parameters(name: str) -> None:
    graph = network(name)
    assert cost.parameters(graph) == PARAMETERS[name]
    assert cost.active_parameters(graph) == ACTIVE.get(name, cost.active_parameters(graph)) <= PARAMETERS[name]


@pytest.mark.parametrize("path", sorted(NETWORKS.glob("*.nl")), ids=lambda path: path.stem)
def test_every_network_is_short_canonical_and_compiles_back_from_its_flat_text(path: Path) -> None:
    assert path.read_text().count("\n") < 60
    assert format_files([path], check=True) == []
    graph = compile_network(path)
    assert compile_network(graph.text()) == graph


def inputs_of(graph: Graph) -> dict[str, np.ndarray]:
    found = {}
    for node in graph.inputs:
        shape = (2, *(7 if isinstance(dim, str) else dim for dim in node.attrs["shape"]))
        high = {"types": 1, "mask": 2}.get(node.name, 31)
        values = derive(0, node.name).below(high, int(np.prod(shape))).reshape(shape)
        found[node.name] = values.astype(node.attrs["dtype"])
    if "mask" in found:
        found["mask"][:] = 1
        found["mask"][1, 5:] = 0
    return found


@pytest.mark.parametrize("backend", ["native", "torch"])
@pytest.mark.parametrize("name", SMALL)
def test_small_ones_give_the_references_answers_and_gradients(name: str, backend: str) -> None:
    if reason := available(backend):
        pytest.skip(reason)
    graph = network(name, **SMALL[name])
    given = inputs_of(graph)
    models = [bind(graph, name, seed=1) for name in ("reference", backend)]
    wanted, actual = (model.forward(given) for model in models)
    assert {name: array.shape for name, array in wanted.items()} == {
        node.name: (2, *(7 if isinstance(dim, str) else dim for dim in infer(graph)[node.name].shape))
        for node in graph.outputs
    }
    for output, array in wanted.items():
        np.testing.assert_allclose(actual[output], array, atol=2e-5)
    targets = {output: np.zeros(array.shape) for output, array in wanted.items()}
    (loss, grads), (their_loss, their_grads) = (model.loss_and_grads(given, targets, MSE()) for model in models)
    assert their_loss == pytest.approx(loss, rel=1e-5)
    for parameter, gradient in grads.items():
        np.testing.assert_allclose(their_grads[parameter], gradient, atol=2e-5, err_msg=parameter)


def test_the_foundation_model_is_compiled_built_on_meta_and_planned_without_allocating_it() -> None:
    pytest.importorskip("torch")
    from alexandra.backends.pytorch import module

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    question = CostQuestion(batch=8, sequence=4096, devices=256)
    made = compile_file(NETWORKS / "foundation.nl", cost=question)
    assert made.record["cost"]["parameters"] == PARAMETERS["foundation"]
    assert made.record["cost"]["active_parameters"] == ACTIVE["foundation"]
    assert "256 devices = 2 data x 128 expert x 1 tensor parallel" in made.text
    found = module(made.graph, device="meta")
    assert sum(parameter.numel() for parameter in found.parameters()) == PARAMETERS["foundation"]
    assert all(parameter.is_meta for parameter in found.parameters())
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**20  # KiB: less than a GiB for 488.6 B


def test_a_plan_covers_every_parameter_and_says_when_nothing_fits() -> None:
    graph = network("foundation")
    plan = sharding_plan(graph, 256, 80 * 2**30)
    assert plan.data * plan.tensor * plan.expert == 256
    assert sum(placement.parameters for placement in plan.placements) == PARAMETERS["foundation"]
    assert plan.bytes_per_device < 0.8 * 80 * 2**30
    assert sum(p.per_device for p in plan.placements) * 256 >= PARAMETERS["foundation"]
    running = sharding_plan(graph, 16, 80 * 2**30, training=False)
    assert running.tensor * running.expert == 16
    with pytest.raises(GraphError, match=r"does not fit 8 devices: the best plan needs .* GiB on each"):
        sharding_plan(graph, 8, 80 * 2**30)


def test_constants_are_given_by_name_and_costs_need_a_length() -> None:
    graph = network("gpt2", layers=1, width=32, heads=2)
    assert cost.parameters(graph) == 50257 * 32 + 1024 * 32 + 12 * 32 * 32 + 13 * 32 + 2 * 32
    assert cost.flops(bind_sizes(graph, {"SEQ": 8})) > 0
    with pytest.raises(LanguageError, match="no LET 'layer' to give a value\n.*Did you mean 'layers'"):
        network("gpt2", layer=1)
    with pytest.raises(UsageError, match="depends on the length of SEQ\ngive it: --sequence 128"):
        compile_file(NETWORKS / "gpt2.nl", cost=True)
