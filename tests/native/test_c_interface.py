"""The C interface does what Python does, to the last byte; its examples build and run; what does not fit is refused
with a status and a sentence, and no text makes it fall over."""

import ctypes
import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("alexandra._native", reason="the native engine is not built")
from alexandra.backends.native import NativeModel
from alexandra.backends.native_plan import describe, save_plan
from alexandra.errors import BackendError
from alexandra.ir.check import make_graph
from alexandra.ir.graph import Graph, Node
from alexandra.ir.weights import WeightSet, initialise
from alexandra.objectives.spec import MSE, SGD, AdamW, CrossEntropy, Program, Schedule
from alexandra.rng import derive

from ..parity.test_ops import ROW_COUNTS, ROWS, SHAPES, SHAPES_OF, data_for
from . import c_library as c


@pytest.fixture(scope="module")
def library() -> c.Library:
    return c.Library()


def network(dropout: bool = True) -> Graph:
    nodes = [
        Node("x", "input", (), {"shape": (6,)}),
        Node("c", "input", (), {"shape": (2,), "dtype": "int32"}),
        Node("e", "embedding", ("c",), {"vocab": 9, "size": 5}),
        Node("flat", "reshape", ("e",), {"shape": (10,)}),
        Node("h", "dense", ("x", "flat"), {"size": 20, "activation": "gelu"}),
        Node("n", "layernorm", ("h",)),
        *([Node("d", "dropout", ("n",), {"rate": 0.25})] if dropout else []),
        Node("g", "dense", ("d" if dropout else "n",), {"size": 20, "activation": "leaky_relu"}),
        Node("r", "add", ("h", "g")),
        Node("m", "rmsnorm", ("r",)),
        Node("s", "slice", ("m",), {"start": 3, "stop": 4}),
        Node("w", "select", ("s", "m", "r"), {"cmp": ">", "value": 0.1}),
        Node("y", "output", ("w",), {"size": 4, "activation": "softmax"}),
        Node("z", "output", ("m",), {"size": 3, "activation": "sigmoid"}),
    ]
    return make_graph("both", nodes)


def small() -> Graph:
    """Dense layers only: what C can begin by itself."""
    nodes = [Node("x", "input", (), {"shape": (6,)}), Node("h", "dense", ("x",), {"size": 20, "activation": "tanh"})]
    return make_graph("small", [*nodes, Node("y", "output", ("h",), {"size": 4, "activation": "softmax"})])


def plan(graph: Graph) -> bytes:
    return json.dumps(describe(graph)).encode()


def data(rows: int = 70) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    x = derive(1, "x").normal(rows * 6).reshape(rows, 6).astype(np.float32)
    inputs = {"x": x, "c": derive(1, "c").below(9, rows * 2).reshape(rows, 2).astype(np.int32)}
    bits = derive(1, "z").below(2, rows * 3).reshape(rows, 3)
    return inputs, {"y": derive(1, "y").below(4, rows).astype(np.int32), "z": bits.astype(np.float32)}


def test_forward_from_a_saved_file_is_pythons(library: c.Library, tmp_path: Path) -> None:
    graph, (inputs, _) = network(), data(300)
    weights = initialise(graph, 5)
    path = weights.save(tmp_path / "w.safetensors", graph)
    wanted = NativeModel(graph, weights).forward(inputs)
    for rows, threads in ((1, 1), (64, 1), (300, 2)):
        model = library.load(plan(graph), path, threads=threads)
        model.call("plan", rows)
        assert model.sizes().weights_mapped
        assert [i.name for i in model.describe(c.INPUT)] == [b"x", b"c"] and model.describe(c.INPUT)[1].below == 9
        for name, array in zip(("y", "z"), model.forward(list(inputs.values())), strict=True):
            np.testing.assert_array_equal(array, wanted[name])


@pytest.mark.parametrize("op", ROWS)
def test_every_op_answers_as_in_python(library: c.Library, tmp_path: Path, op: str) -> None:
    for number, shape in enumerate(SHAPES_OF.get(op, SHAPES)):
        for graph in ROWS[op](shape):
            inputs, _, weights = data_for(graph, ROW_COUNTS.get(shape, 3))
            path = weights.save(tmp_path / f"{number}.safetensors", graph)
            outputs = library.load(plan(graph), path).forward([inputs[node.name] for node in graph.inputs])
            for wanted, actual in zip(NativeModel(graph, weights).forward(inputs).values(), outputs, strict=True):
                np.testing.assert_array_equal(actual, wanted, err_msg=graph.text())


DECAYS = ("constant", "cosine", "step", "linear", "wsd")  # numbered as alexandra.h does


@pytest.mark.parametrize("decay", ["cosine", "linear", "wsd"])
@pytest.mark.parametrize("optimizer", [SGD(0.05, 0.9, 0.01), AdamW(0.01, l1=0.001)], ids=str)
def test_training_is_pythons_run_byte_for_byte(
    library: c.Library, tmp_path: Path, optimizer: SGD | AdamW, decay: str
) -> None:
    graph, (inputs, targets) = network(), data()
    path = initialise(graph, 5).save(tmp_path / "w.safetensors", graph)
    schedule = Schedule(decay, warmup_steps=3, total_steps=12, final=0.1, every=4)
    run = Program(CrossEntropy(0.1), optimizer, schedule, 8, 0.5, 11, accumulate=2)
    python = NativeModel(graph, WeightSet.load(path))
    wanted = python.run(python.start(run, inputs, {"y": targets["y"], "z": targets["z"]}), 12)
    program = c.Program()
    library.call("defaults", ctypes.byref(program))
    program.label_smoothing, program.seed, program.clip_norm = 0.1, 11, 0.5
    program.batch_size, program.accumulate = 8, 2
    program.decay, program.warmup_steps, program.total_steps = DECAYS.index(decay), 3, 12
    program.final_factor, program.every = 0.1, 4
    program.lr, program.weight_decay = optimizer.lr, optimizer.weight_decay
    if isinstance(optimizer, SGD):
        program.optimizer, program.momentum = 0, optimizer.momentum
    else:
        program.l1 = optimizer.l1
    model = library.load(plan(graph), path)
    model.train(program, list(inputs.values()), list(targets.values()))
    sizes = model.sizes()
    np.testing.assert_array_equal(np.concatenate([model.step(5), model.step(7)]), wanted)
    for name, array in model.read().items():
        np.testing.assert_array_equal(array, python.weights[name], err_msg=name)
    assert bytes(sizes) == bytes(model.sizes()) and sizes.gradients == python.memory["gradients"]
    before = path.read_bytes()
    model.call("save", str(tmp_path / "trained.safetensors").encode())
    assert path.read_bytes() == before
    saved = WeightSet.load(tmp_path / "trained.safetensors", graph)
    assert saved == python.weights == WeightSet.open(tmp_path / "trained.safetensors", graph)


def test_first_weights_and_regression_are_pythons(library: c.Library) -> None:
    graph, (inputs, _) = small(), data()
    model = library.load(plan(graph), seed=7)
    for name, array in initialise(graph, 7).items():
        np.testing.assert_array_equal(model.read()[name], array)
    python = NativeModel(graph, initialise(graph, 7))
    targets = derive(2, "t").normal(280).reshape(70, 4).astype(np.float32)
    run = Program(MSE(), AdamW(), batch_size=32)
    wanted = python.run(python.start(run, {"x": inputs["x"]}, targets), 6)
    program = c.Program()
    library.call("defaults", ctypes.byref(program))
    program.objective = 1
    model.train(program, [inputs["x"]], [targets])
    np.testing.assert_array_equal(model.step(6), wanted)


def test_written_parameters_are_used_and_the_file_stays(library: c.Library, tmp_path: Path) -> None:
    graph, (inputs, _) = network(), data()
    path = initialise(graph, 5).save(tmp_path / "w.safetensors", graph)
    model, other = library.load(plan(graph), path), initialise(graph, 6)
    model.forward(list(inputs.values()))
    for index, info in enumerate(model.describe(c.PARAMETER)):
        model.call("write", index, place(np.array(other[info.name.decode()])))
    assert not model.sizes().weights_mapped
    wanted = NativeModel(graph, other).forward(inputs)["y"]
    np.testing.assert_array_equal(model.forward(list(inputs.values()))[0], wanted)
    assert WeightSet.load(path) == initialise(graph, 5)


def place(array: np.ndarray) -> object:
    return array.ctypes.data_as(ctypes.c_void_p)


def refused(library: c.Library, status: int, message: str, call: object) -> None:
    with pytest.raises(c.CError, match=message) as caught:
        call()
    assert caught.value.status == status


def test_what_does_not_fit_is_refused_with_its_values(library: c.Library, tmp_path: Path) -> None:
    graph, (inputs, targets) = network(), data()
    path = initialise(graph, 5).save(tmp_path / "w.safetensors", graph)
    model = library.load(plan(graph), path)
    arrays, answers = list(inputs.values()), list(targets.values())
    program = c.Program()
    library.call("defaults", ctypes.byref(program))
    refused(library, c.INVALID, "max_rows must be 1 .. 2\\^24, got 0", lambda: model.call("plan", 0))
    refused(library, c.INVALID, "alexandra_train comes first", lambda: model.step(1))
    refused(library, c.INVALID, "parameter 99 of", lambda: model.call("read", 99, place(arrays[0])))
    nines = [arrays[0], arrays[1] * 0 + 9]
    refused(library, c.INVALID, "input 'c' holds 9, allowed are 0 .. 8", lambda: model.forward(nines))
    wrong = [targets["y"] + 4, targets["z"]]
    refused(library, c.INVALID, "class [4-7], the output has 0 .. 3", lambda: model.train(program, arrays, wrong))
    halves = [targets["y"], targets["z"] / 2]
    refused(library, c.INVALID, "holds 0.5.*, allowed are 0 and 1", lambda: model.train(program, arrays, halves))
    program.lr = float("nan")
    refused(library, c.INVALID, "lr must be a number >= 0, got nan", lambda: model.train(program, arrays, answers))
    refused(library, c.UNSUPPORTED, "instruction set 'mmx'", lambda: library.load(plan(graph), path, isa=b"mmx"))
    refused(library, c.INVALID, "threads must be 1 .. 256", lambda: library.load(plan(graph), path, threads=999))
    refused(library, c.UNSUPPORTED, "begins as 'normal'", lambda: library.load(plan(graph)))
    refused(library, c.INVALID, "cannot open", lambda: library.load(plan(graph), tmp_path / "none.safetensors"))
    refused(library, c.FILE, "cannot write", lambda: model.call("save", str(tmp_path / "no/w.safetensors").encode()))
    refused(library, c.INVALID, "model is NULL", lambda: library.call("plan", None, 3))
    program.lr = 1e30
    program.optimizer, program.objective = 0, 1
    values = [np.ones((70, 4), np.float32), np.ones((70, 3), np.float32)]
    model.train(program, arrays, values)
    refused(library, c.NOT_FINITE, "the loss is .* at step", lambda: model.step(50))


@pytest.mark.parametrize("place", [-3, -200, 40])
def test_a_flipped_bit_of_the_file_is_found(library: c.Library, tmp_path: Path, place: int) -> None:
    graph = network()
    path = initialise(graph, 5).save(tmp_path / "w.safetensors", graph)
    whole = bytearray(path.read_bytes())
    whole[place] ^= 4
    path.write_bytes(whole)
    with pytest.raises(c.CError):
        library.load(plan(graph), path)


@pytest.mark.parametrize("count", [200, pytest.param(20_000, marks=pytest.mark.slow)])
def test_no_mutated_plan_makes_it_fall_over(library: c.Library, tmp_path: Path, count: int) -> None:
    """Numbers, names and brackets of a good plan are changed; each is refused, or runs."""
    graph, (inputs, _) = network(), data(3)
    good = bytearray(plan(graph))
    path = initialise(graph, 5).save(tmp_path / "w.safetensors", graph)
    stream, refusals = derive(3, "plans"), 0
    for number in range(count):
        text = bytearray(good)
        words = stream.at(number).words(8)
        for k in range(1 + int(words[0]) % 3):
            at = int(words[1 + k]) % len(text)
            text[at : at + int(words[4 + k]) % 3] = b'0123456789[]{}",:-ex'[int(words[6]) % 20 :][:1]
        try:
            model = library.load(bytes(text), path)
            model.forward(list(inputs.values()))
        except c.CError as error:
            refusals += 1
            assert error.status in (c.INVALID, c.UNSUPPORTED) and str(error)
    assert refusals > 0.6 * count


def test_plans_that_lie_about_shapes_are_refused(library: c.Library) -> None:
    for change, message in (
        (lambda p: p["nodes"][1].update(shape=[21]), "do not fit"),
        (lambda p: p["params"][0].update(shape=[20, 7]), "do not fit"),
        (lambda p: p["nodes"][1].update(inputs=["y"]), "there is no node 'y' before"),
        (lambda p: p["nodes"][1].update(params=[]), "which is not what it needs"),
        (lambda p: p["nodes"][1].update(op="dens"), "plans know no such op"),
        (lambda p: p["heads"][0].update(logits="x"), "cannot be the logits"),
        (lambda p: p.update(version=2), "version 1"),
        (lambda p: p.update(extra=1), "unknown field 'extra'"),
        (lambda p: p["nodes"].clear(), "before it is used|needs an input"),
    ):
        described = describe(small())
        change(described)
        refused(library, c.INVALID, message, lambda d=described: library.load(json.dumps(d).encode()))
    refused(library, c.INVALID, "wanted", lambda: library.load(b'{"nodes": ' + b"[" * 5000))


def test_an_open_network_has_no_plan() -> None:
    nodes = [Node("x", "input", (), {"shape": ("S", 3)}), Node("y", "output", ("x",), {"size": 2})]
    with pytest.raises(BackendError, match="leaves sizes open in 'x'"):
        describe(make_graph("open", nodes))


def test_the_training_example_builds_learns_and_saves(tmp_path: Path) -> None:
    program = c.compiled("train", tmp_path)
    done = subprocess.run([program, tmp_path / "circle.safetensors"], capture_output=True, text=True, check=True)
    assert "the same after loading: yes" in done.stdout and "refused with status 1" in done.stdout
    assert int(done.stdout.split("right: ")[1].split()[0]) > 460
    assert (tmp_path / "circle.manifest.json").exists()


def test_the_inference_example_answers_as_python(tmp_path: Path) -> None:
    graph = small()
    weights = initialise(graph, 2)
    weights.save(tmp_path / "w.safetensors", graph)
    save_plan(graph, tmp_path / "net.json")
    row = [0.1, -0.2, 0.3, 0.4, -0.5, 0.6]
    arguments = [tmp_path / "net.json", tmp_path / "w.safetensors", *map(str, row)]
    done = subprocess.run([c.compiled("infer", tmp_path), *arguments], capture_output=True, text=True, check=True)
    wanted = NativeModel(graph, weights).forward({"x": np.array([row], np.float32)})["y"][0]
    np.testing.assert_array_equal(np.array(done.stdout.split(), np.float32), wanted)
