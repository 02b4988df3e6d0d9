"""A curriculum as a task: its items as data, networks with a head per digit, simple baselines, training, explanation.

Items come from curriculum/ with the splits that their canonical keys decide, the same under every seed. What is
registered is the very network that was measured on the held-out items: it is not trained again on all of them, because
a finite level would leave nothing to measure it on. Level 1 is learnt; the levels above it have no coding yet.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np

from alexandra.backends.bind import bind
from alexandra.curriculum import LEVELS, level, level_of
from alexandra.curriculum.items import SHARES, TRAIN, VAL
from alexandra.data.profile import ColumnProfile, Profile
from alexandra.data.target import TargetEncoder
from alexandra.errors import StorageError, TaskError, suggest
from alexandra.ir.build import Builder, Layer
from alexandra.ir.check import bind_sizes
from alexandra.ir.graph import AUTO, Graph
from alexandra.ir.weights import WeightSet
from alexandra.lang.task_spec import FamilyRef, Split, Task, resolved
from alexandra.maths import key, parse, rational
from alexandra.metrics import check_kind
from alexandra.metrics import metric as metric_named
from alexandra.storage import content_hash, publish, read_bytes, read_tensors, tensors_bytes
from alexandra.tables import Column, Table
from alexandra.train.candidates import Candidate, Recipe, from_text, refuse_twins
from alexandra.train.crossfit import Settings, program_for, seed_of
from alexandra.train.curriculum_code import INPUT, DigitCoder, inputs_of
from alexandra.train.curriculum_specialist import CurriculumSpecialist
from alexandra.train.loop import Batch, History, Plan, fit_loop
from alexandra.train.prepare import Part, Prepared
from alexandra.train.specialist import fingerprints

ANSWER = "answer"
LEARNT_LEVELS = (1,)
RECIPE = Recipe(lr=3e-3, weight_decay=0.3, batch_size=128, epochs=150, patience=50)


# --- data ---------------------------------------------------------------------------------------------------------


def load_table(task: Task, folder: Path) -> Table:
    """The items that DATA names, in distribution: question and exact answer; the same for every seed."""
    first, last = task.data.levels
    for number in range(first, last + 1):
        if number not in LEARNT_LEVELS:
            known = ", ".join(map(str, LEARNT_LEVELS))
            raise TaskError(
                f"curriculum(levels={first}..{last}): level {number} cannot be learnt by this version, only {known}",
                hint="write levels=1; every level can be generated: alexandra generate --level N"
                if number in LEVELS
                else suggest(str(number), map(str, LEVELS)),
            )
    items = list(level(first, task.data.count, pins=1))
    columns = {
        INPUT: Column(INPUT, "text", np.array([item.input for item in items], object), np.zeros(len(items), bool)),
        ANSWER: Column(
            ANSWER, "number", np.array([float(item.expected) for item in items]), np.zeros(len(items), bool)
        ),
    }
    return Table(columns, f"level {first}")


def prepare(task: Task, table: Table, *, keep_leaks: bool = False) -> Prepared:
    """Answers worked out exactly, canonical keys, and the parts that these decide; `keep_leaks` has no meaning here."""
    inputs = inputs_of(table)
    trees = [parse(text) for text in inputs]
    y = np.array([float(rational(tree)) for tree in trees])
    keys = np.array([key(tree) for tree in trees])
    task = resolved(replace(task, split=_split(task.split)), len(inputs), "curriculum")
    assert task.metric is not None, "resolved() fills in the metric"
    check_kind(task.metric.name, 0)
    metric = metric_named(task.metric.name, **task.metric.kwargs)
    digest = content_hash("\n".join(f"{text} {value:g}" for text, value in zip(inputs, y, strict=True)).encode())
    target = TargetEncoder(ANSWER)
    return Prepared(task, table, _profile(task, keys), [INPUT], target, y, keys, (_part(task, keys),), digest, metric)


def _split(split: Split) -> Split:
    """The default shares, or the task's own; they cut the unit interval of canonical keys."""
    if split.folds or split.time or split.group:
        raise TaskError(
            "a curriculum is divided by the canonical keys of its items, not by folds, time or group",
            hint="leave SPLIT out, or write SPLIT train=80% validation=10% test=10%",
        )
    if split.fractions:
        return split
    ends = SHARES[TRAIN], SHARES[VAL]
    return replace(split, fractions=(ends[0], round(ends[1] - ends[0], 9), round(1 - ends[1], 9)))


def _part(task: Task, keys: np.ndarray) -> Part:
    assert task.split.fractions is not None
    first, second, _ = task.split.fractions
    place = np.array([int(one[:8], 16) / 2**32 for one in keys.tolist()])
    train, valid = place < first, (first <= place) & (place < round(first + second, 9))
    part = Part("holdout", *(np.flatnonzero(rows) for rows in (train, valid, ~(train | valid))))
    if min(len(part.train), len(part.valid), len(part.test)) == 0:
        raise TaskError(
            f"{len(keys)} items leave train={len(part.train)}, validation={len(part.valid)}, test={len(part.test)}",
            hint="ask for more: DATA curriculum(levels=1, count=10000)",
        )
    return part


def _profile(task: Task, keys: np.ndarray) -> Profile:
    row = level_of(task.data.levels[0], pins=1)
    distinct = len(np.unique(keys))
    least = "at least " if row.at_least else ""
    words = f"level {row.number} ({row.skill}): {distinct:,} of {least}{row.distinct:,} distinct items, divided by key"
    columns = (
        ColumnProfile(INPUT, "text", "feature", distinct, 0.0, "the question, in the prefix language"),
        ColumnProfile(ANSWER, "number", "target", 0, 0.0, "worked out exactly"),
    )
    return Profile(len(keys), ANSWER, False, columns, (INPUT,), {}, (), None, len(keys) - distinct, 0, (words,))


# --- networks -----------------------------------------------------------------------------------------------------


def encode(data: Prepared, rows: np.ndarray) -> DigitCoder:
    """The coding of inputs and answers, fitted on `rows`."""
    return DigitCoder.fit(inputs_of(data.table.take(rows)), data.y[rows])


def candidates(data: Prepared) -> list[Candidate]:
    """Every network that the task names, bound to the heads of its answers; TaskError for one that does not fit."""
    task, coder = data.task, encode(data, data.parts[0].train)
    found: list[Candidate] = []
    for reference in task.networks:
        if isinstance(reference, FamilyRef):
            found += _family(reference, coder)
        else:
            found.append(replace(from_text(reference, Path(task.folder), data.table.n_rows), recipe=RECIPE))
    refuse_twins(found)
    return [replace(one, graph=bound(one.graph, coder)) for one in found]


def _family(family: FamilyRef, coder: DigitCoder) -> list[Candidate]:
    if family.name != "curriculum":
        raise TaskError(
            f"the family {family.name!r} reads tables, not expressions", hint=suggest(family.name, ["curriculum"])
        )
    found = []
    for layers, width in _shapes(family):
        name = f"digits-{layers}x{width}" if layers else "linear"
        found.append(Candidate(name, heads_network(layers, width, coder), RECIPE))
    return found


def _shapes(family: FamilyRef) -> list[tuple[int, int]]:
    """Up to six (layers, width) that span the family: carrying takes about three layers, so more of these."""
    (least, most), (narrow, wide) = family.layers, family.widths
    middle = min(max(narrow, 1 << math.ceil(math.log2(narrow * wide) / 2)), wide)
    wanted = [(0, narrow), (1, wide), (2, middle), (2, wide), (3, middle), (3, wide), (least, wide), (most, wide)]
    return list(dict.fromkeys(shape for shape in wanted if least <= shape[0] <= most))[:6]


def heads_network(layers: int, width: int, coder: DigitCoder) -> Graph:
    """Hidden layers of one width on the one-hot digits, then a softmax per head, all sizes open."""
    build = Builder(f"digits_{layers}x{width}")
    last = build.input("x")
    for number in range(1, layers + 1):
        last = build.layer(Layer("dense", size=width, activation="relu"), last, name=f"h{number}")
    for head in coder.heads:
        build.output(head, last, size=AUTO, activation="softmax")
    return build.graph()


def bound(graph: Graph, coder: DigitCoder) -> Graph:
    """Sizes filled in; TaskError when inputs or outputs are not those of the coding."""
    heads = coder.heads
    names = [node.name for node in graph.outputs]
    if len(graph.inputs) != 1 or sorted(names) != sorted(heads):
        raise TaskError(
            f"network {graph.name!r} has the outputs {', '.join(names)}",
            hint=f"a network for this curriculum has one input and the outputs {', '.join(heads)}",
        )
    for node in graph.outputs:
        if node.attrs.get("activation") != "softmax" or node.attrs.get("size") not in (AUTO, heads[node.name]):
            raise TaskError(
                f"network {graph.name!r}: output {node.name!r} must be a softmax of size {heads[node.name]}",
                hint="write size=AUTO activation=softmax",
            )
    source = graph.inputs[0]
    embeds = source.attrs.get("dtype") == "int32"
    sizes = {**heads, source.name: coder.tokens_per_row if embeds else coder.width}
    sizes |= {node.name: coder.vocabulary for node in graph.nodes if node.op == "embedding"}
    return bind_sizes(graph, sizes)


# --- training -----------------------------------------------------------------------------------------------------


def train(
    data: Prepared,
    candidate: Candidate,
    coder: DigitCoder,
    rows: tuple[np.ndarray, np.ndarray],
    settings: Settings,
) -> tuple[CurriculumSpecialist, History]:
    """Train one candidate on rows[0], keep the weights that are best on rows[1]; they stay in the run's folder."""
    targets = coder.targets(data.y)
    train, valid = (
        Batch(coder.arrays(candidate.graph, inputs_of(data.table.take(part))), {n: t[part] for n, t in targets.items()})
        for part in rows
    )
    recipe = candidate.recipe
    model = bind(candidate.graph, settings.backend, seed=settings.seed, threads=1)
    program = program_for(recipe, candidate.graph, train.rows, settings.seed, recipe.epochs)
    history = fit_loop(model, train, Plan(program, recipe.epochs, recipe.patience, settings.deadline), valid)
    publish(_kept(settings, candidate), tensors_bytes(dict(model.weights.items())))
    return CurriculumSpecialist(candidate.name, coder, model, {}), history


def _kept(settings: Settings, candidate: Candidate) -> Path:
    return settings.folder / "fits" / f"{candidate.name}.weights.safetensors"


def finish(data: Prepared, candidate: Candidate, epochs: int, settings: Settings) -> CurriculumSpecialist:
    """The network that was measured, with the items that it learnt from; trained again when its weights are gone."""
    part = data.parts[0]
    coder = encode(data, part.train)
    try:
        arrays, _ = read_tensors(read_bytes(_kept(settings, candidate)), str(_kept(settings, candidate)))
        model = bind(candidate.graph, settings.backend, weights=WeightSet(arrays), threads=1)
        specialist = CurriculumSpecialist(candidate.name, coder, model, {})
    except StorageError:
        again = replace(settings, seed=seed_of(settings, candidate.name, part.name))
        specialist, _ = train(data, candidate, coder, (part.train, part.valid), again)
    learnt = np.concatenate([part.train, part.valid])
    specialist.training = np.unique(fingerprints(data.keys[learnt]))
    return specialist
