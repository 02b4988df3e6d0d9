"""Other builds of the engine: one that counts allocations finds none after planning; one for inference alone gives the
same bytes in the same memory from a smaller module. Slow: each is compiled first."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

_native = pytest.importorskip("alexandra._native", reason="the native engine is not built")

ROOT = Path(__file__).parents[2]

NETWORKS = '''
import numpy as np
from alexandra.backends.native import NativeModel
from alexandra.ir.check import make_graph
from alexandra.ir.graph import Node
from alexandra.ir.weights import initialise
from alexandra.objectives.spec import *
from alexandra.rng import derive

def normal(*shape):
    return derive(1, "x").normal(int(np.prod(shape))).reshape(shape).astype(np.float32)

LAYERS = {
    "mlp": [Node("h", "dense", ("x",), {"size": 40, "activation": "gelu"}), Node("n", "layernorm", ("h",)),
            Node("d", "dropout", ("n",), {"rate": 0.2})],
    "transformer": [Node("a", "attention", ("x",), {"heads": 4, "kv_heads": 2, "rope": True}),
                    Node("r", "add", ("x", "a")), Node("m", "rmsnorm", ("r",)),
                    Node("f", "ffn", ("m",), {"hidden": 24}), Node("d", "add", ("r", "f"))],
    "recurrent": [Node("l", "lstm", ("x",), {"size": 12}), Node("d", "gru", ("l",), {"size": 9})],
    "image": [Node("c", "conv2d", ("x",), {"size": 6}), Node("b", "batchnorm", ("c",)), Node("s", "relu", ("b",)),
              Node("d", "pool2d", ("s",), {})],
    "experts": [Node("e", "moe", ("x",), {"experts": 4, "top_k": 2, "hidden": 16, "balance": 0.01, "jitter": 0.1}),
                Node("d", "add", ("x", "e"))],
}
SHAPES = {"mlp": (16,), "image": (8, 8, 3)}

def network(kind):
    shape = SHAPES.get(kind, (6, 16))
    nodes = [Node("x", "input", (), {"shape": shape}), *LAYERS[kind]]
    flat = len(shape) > 1
    if flat:
        nodes.append(Node("p", "reshape", ("d",), {"shape": (FLAT[kind],)}))
    nodes.append(Node("y", "output", ("p" if flat else "d",), {"size": 5, "activation": "softmax"}))
    return make_graph(kind, nodes)

FLAT = {"transformer": 96, "recurrent": 54, "image": 96, "experts": 96}

def model(kind, **settings):
    graph = network(kind)
    return NativeModel(graph, initialise(graph, 3), **settings)

def data(kind, rows=50):
    return {"x": normal(rows, *SHAPES.get(kind, (6, 16)))}, derive(1, "y").below(5, rows)
'''

COUNT = (
    NETWORKS
    + """
from alexandra import _native
assert _native.testing.counts_a_vector() > 0  # the counter counts
before = _native.counted_allocations()
for kind in LAYERS:
    for threads in (1, 2):
        one = model(kind, threads=threads)
        x, y = data(kind)
        for _ in range(3):
            one.forward(x)
        for objective, targets in ((CrossEntropy(0.1), y), (KL(2.0), np.full((50, 5), 0.2, np.float32)),
                                   (WeightedCrossEntropy(), {"classes": y, "weights": np.ones(50)})):
            program = Program(objective, AdamW(l1=0.001), batch_size=8, accumulate=2, clip_norm=0.5, frozen=("y.bias",),
                              stop=EarlyStop(2, 3))
            state = one.start(program, x, targets, (x, targets))
            one.run(state, 12)
        one.loss(x, y, CrossEntropy())
print("allocations:", _native.counted_allocations() - before)
"""
)

ANSWERS = (
    NETWORKS
    + """
import json, sys
from alexandra import _native
from alexandra.errors import BackendError
found = {}
for kind in LAYERS:
    for isa in _native.available_isas():
        one = model(kind, isa=isa)
        y = one.forward(data(kind)[0])["y"]
        found[f"{kind} {isa}"] = [y.tobytes().hex(), one.memory["arena"], one.memory["weights"]]
refused = ""
try:
    one = model("mlp")
    one.start(Program(CrossEntropy()), *data("mlp"))
except BackendError as error:
    refused = str(error)
print(json.dumps([found, refused]))
"""
)


def built(folder: str, *options: str) -> Path:
    """The engine of these CMake options, compiled into build/<folder>."""
    if shutil.which("cmake") is None or shutil.which("ninja") is None:
        pytest.skip("needs cmake and ninja")
    out = ROOT / "build" / folder
    configure = ["cmake", "-S", ROOT, "-B", out, "-G", "Ninja", f"-DPython_EXECUTABLE={sys.executable}", *options]
    for command in (configure, ["cmake", "--build", out]):
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return out


def run(folder: Path | None, script: str, place: Path) -> str:
    """The output of `script` under the package with the engine of `folder` (None: the one in use)."""
    tree = place / (folder.name if folder else "own") / "alexandra"
    tree.mkdir(parents=True)
    for path in (ROOT / "src/alexandra").iterdir():
        if folder is None or not path.name.startswith("_native"):
            (tree / path.name).symlink_to(path)
    for path in folder.glob("_native*.so") if folder else ():
        (tree / path.name).symlink_to(path)
    first = (
        "import sys\n"
        'sys.meta_path[:] = [f for f in sys.meta_path if "ScikitBuild" not in type(f).__name__]\n'
        f"sys.path.insert(0, {str(tree.parent)!r})\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(tree.parent)}
    done = subprocess.run([sys.executable, "-c", first + script], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_nothing_is_allocated_after_planning(tmp_path: Path) -> None:
    folder = built("counted", "-DALEXANDRA_COUNT_ALLOCATIONS=ON")
    assert "allocations: 0\n" in run(folder, COUNT, tmp_path)


@pytest.mark.slow
def test_a_build_for_inference_alone_answers_the_same_in_the_same_memory_and_is_smaller(tmp_path: Path) -> None:
    folder = built("inference", "-DALEXANDRA_INFERENCE_ONLY=ON")
    ours, refused = json.loads(run(None, ANSWERS, tmp_path))
    theirs, their_refusal = json.loads(run(folder, ANSWERS, tmp_path))
    assert ours == theirs and not refused
    assert "built for inference alone" in their_refusal
    small, whole = (path.stat().st_size for path in (next(folder.glob("_native*.so")), Path(_native.__file__)))
    print(f"{small} of {whole} bytes, {small / whole:.0%}")
    assert small < 0.75 * whole


def test_this_build_trains_and_does_not_count() -> None:
    assert _native.trains is True
    assert np.uint64(_native.counted_allocations()) == np.iinfo(np.uint64).max
