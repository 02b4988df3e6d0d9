"""Steps over rows of several widths: what they refuse, and that they allocate and remember what they say."""

import numpy as np
import pytest

from alexandra.backends.bind import available, bind
from alexandra.errors import BackendError
from alexandra.lang.nureon import compile_network
from alexandra.objectives.spec import SGD, Program, WeightedCrossEntropy
from alexandra.rng import derive

pytestmark = pytest.mark.skipif(bool(available("native")), reason="the native engine is not built")
TEXT = """
LAYER INPUT name=tokens shape=(SEQ) dtype=int32
LAYER EMBEDDING name=e vocab=7 size=8
LAYER ATTENTION name=a heads=2 rope=TRUE
LAYER OUTPUT name=y size=7
CONNECT tokens -> e -> a -> y
"""
PROGRAM = Program(WeightedCrossEntropy(normalizer=1.0), SGD(lr=0.05), batch_size=8, shuffle=False)


def group(rows: int, width: int):  # type: ignore[no-untyped-def]
    stream = derive(0, "group", rows, width)
    tokens, classes = (stream.at(i).below(7, rows * width).reshape(rows, width).astype(np.int32) for i in range(2))
    return {"tokens": tokens}, {"classes": classes, "weights": np.full((rows, width), 0.01, np.float32)}


def parts(*groups):  # type: ignore[no-untyped-def]
    from alexandra.backends.native_parts import NativeParts

    return NativeParts(bind(compile_network(TEXT), "native", seed=0), PROGRAM, groups or (group(3, 5),))  # type: ignore[arg-type]


def test_a_step_is_the_sum_of_its_groups_whatever_their_sizes() -> None:
    groups = [group(3, 5), group(21, 9), group(1, 2)]
    run = parts(*groups)
    alone = [run.model.loss_and_grads(*one, PROGRAM.objective) for one in groups]
    before = dict(run.model.weights)
    assert run.advance(groups) == pytest.approx(sum(loss for loss, _ in alone), rel=1e-5)
    for name, array in run.model.weights.items():
        gradient = sum(grads[name] for _, grads in alone)
        np.testing.assert_allclose(array, before[name] - 0.05 * gradient, atol=1e-6, err_msg=name)
    assert run.step == 1 and run.advance([group(40, 5)]) > 0 and run.step == 2


def test_memory_is_that_of_the_widest_rows_not_of_all_widths() -> None:
    run, alone = parts(group(8, 4)), parts(group(8, 16))
    run.advance([group(8, width) for width in (4, 8, 12, 16)])
    alone.advance([group(8, 16)])
    assert run.model.memory == alone.model.memory


def test_steps_that_make_no_sense_are_refused() -> None:
    from alexandra.backends.native import engine_errors

    run = parts()
    with pytest.raises(BackendError, match="a step needs rows"):
        run.advance([])
    with pytest.raises(BackendError, match="one width"):
        run.advance([group(3, 5), group(4, 5)])
    part = run.model.started(run.program, *group(2, 3), varies=True, part=True)
    with pytest.raises(BackendError, match="a part of another trainer's steps takes none itself"):
        run.model.run(part, 1)
    other = parts()
    with pytest.raises(BackendError, match="trainers of one network's weights"), engine_errors():
        other._main.trainer.run_over([run._main.trainer])
    assert run.step == other.step == 0
