"""One self-contained HTML page about a solve: what was measured, missed, decided, and how to repeat it.

No script, no font, no image from elsewhere; readable on a phone. Everything on it comes from the Solution and
from an Explanation, nothing is computed here but the bins of the calibration chart and the confusion matrix.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from alexandra import __version__
from alexandra.api import charts, render
from alexandra.api.html import Html, document, figure, grid, paragraph, section, table, whole
from alexandra.lang.conditions import Reason
from alexandra.records import Outcomes
from alexandra.storage import publish
from alexandra.train.explain import Explanation, missed_rows
from alexandra.train.solve import SPECIALIST, Solution

MANY_CLASSES = 30


def write(solution: Solution, explanation: Explanation, path: Path) -> Solution:
    """Publish the page at `path` and return the solution that knows it."""
    publish(path, page(solution, explanation).encode())
    return replace(solution, report=path)


def page(solution: Solution, explanation: Explanation) -> str:
    """The whole page."""
    task = solution.task
    sections = [
        ("Decision", _decision(solution)),
        ("Models", _models(solution)),
        ("Learning curves", _curves(solution)),
        ("Scorecard", _scorecard(solution)),
        _mistakes(solution),
        ("What each candidate missed", _missed(solution)),
        ("Which columns matter", _importance(solution, explanation)),
        ("A few rows, explained", _rows(solution, explanation)),
        ("Groups", _groups(solution)),
        ("Data", _data(solution)),
        ("Repeat it", _repeat(solution)),
    ]
    about = f'<p class="lead">{escape(task.about)}</p>' if task.about else ""
    facts = paragraph(" · ".join(render.heading(solution).split("   ")[1:]), muted=True)
    head = f"<h1>{escape(task.name)}</h1>{about}{facts}"
    return document(f"{task.name}: report", head + "".join(section(*one) for one in sections))


def _mark(passed: bool | None) -> Html:
    words = {True: '<span class="ok">met</span>', False: '<span class="no">missed</span>', None: "unknown"}
    return Html(words[passed])


def _reasons(reasons: Sequence[Reason]) -> str:
    return table(("", "requirement", "measured"), [(_mark(one.passed), one.text, one.words) for one in reasons])


def _decision(solution: Solution) -> str:
    lines = "".join(map(_line, (line for line in render.conclusion(solution) if not line.startswith("report"))))
    best = solution.winner
    assert best.decision is not None
    check = f"<p>The check of <b>{escape(best.name)}</b>, opened once on rows that played no part in choosing it:</p>"
    gate = ""
    if solution.gate is not None:
        gate = "<p>The gate <code>production</code>:</p>" + _reasons(solution.gate.reasons)
    return f"<ul>{lines}</ul>{check}{_reasons(best.decision.reasons)}{gate}"


def _line(line: str) -> str:
    """A line of the terminal, its first words apart; what is to be typed as code."""
    label, _, rest = line.partition("  ")
    shown = f"<code>{escape(rest.strip())}</code>" if label == "ask it" else escape(rest.strip())
    return f"<li><b>{escape(label)}</b>: {shown}</li>"


def _models(solution: Solution) -> str:
    metric = str(solution.data.metric)
    rows = []
    for row in solution.rows:
        latency = render.duration(row.card.latency_p95_seconds) if row.card.latency_p95_seconds else "-"
        kind = "" if row.kind == SPECIALIST else "baseline "
        epochs: object = row.epochs or "-"
        rows.append(
            (
                f"{kind}{row.name}",
                epochs,
                whole(str(row.metric(metric))),
                row.card.parameters,
                whole(latency),
                render.verdict_words(row),
            )
        )
    note = paragraph(
        "Test rows only; the interval covers 95 %. The choice was made on validation rows: the smallest network "
        "within one standard error of the best."
    )
    head = ("model", "epochs", f"{metric}, n={solution.winner.card.n:,}", "parameters", "p95", "check")
    return note + table(head, rows)


def _curves(solution: Solution) -> str:
    out = []
    for row in solution.rows:
        fits = [fit for fit in solution.fits if fit.name == row.name and len(fit.train_loss)]
        if not fits:
            continue
        series = [(f"{fit.part} training", fit.train_loss, 0, True) for fit in fits]
        series += [(f"{fit.part} validation", fit.valid_loss, 1, False) for fit in fits]
        chart = charts.lines(series, "epoch", "loss", f"learning curves of {row.name}")
        out.append(figure(chart, f"{row.name}: training dashed, validation solid, a line a part"))
    return grid(out)


def _scorecard(solution: Solution) -> str:
    card = solution.winner.card
    rows = [(name, value.value, value.low, value.high, value.n or card.n) for name, value in card.metrics.items()]
    verdicts = [
        (one.verifier, "abstains" if one.score is None else f"{one.score:.3f}", one.reason, f"{one.seconds:.2f} s")
        for one in card.verdicts
    ]
    judged = table(("verifier", "score", "words", "time"), verdicts) if verdicts else ""
    return table(("metric", "value", "low", "high", "n"), rows, f"{card.model}, 95 % intervals") + judged


def _mistakes(solution: Solution) -> tuple[str, str]:
    outcomes = solution.winner.card.outcomes
    if not outcomes.is_classification:
        labels = ("true value", "predicted value", "predictions against truth")
        residuals = outcomes.predictions - outcomes.targets
        words = f"Residuals: mean {residuals.mean():.4g}, standard deviation {residuals.std():.4g}"
        chart = figure(charts.scatter(*_sample(outcomes), labels, diagonal=True), words)
        return "Residuals", grid([chart])
    matrix = confusion(outcomes)
    if len(outcomes.classes) > MANY_CLASSES:
        pairs = [(int(matrix[i, j]), i, j) for i, j in zip(*np.nonzero(matrix), strict=True) if i != j]
        rows = [(outcomes.classes[i], outcomes.classes[j], n) for n, i, j in sorted(pairs, reverse=True)[:20]]
        head = ("truth", "answer", "rows")
        return "Confusion", table(head, rows) if rows else paragraph("No row was answered wrongly.")
    asked = outcomes.classes[outcomes.positive] if len(outcomes.classes) == 2 else "the answered class"
    words = f"Calibration: the probability of {asked} against what came true; area is the number of rows."
    parts = [_matrix_html(outcomes.classes, matrix), figure(charts.calibration(*calibration_bins(outcomes)), words)]
    return "Confusion and calibration", grid(parts)


def _sample(outcomes: Outcomes, most: int = 800) -> tuple[np.ndarray, np.ndarray]:
    step = max(1, outcomes.n // most)
    return outcomes.targets[::step], outcomes.predictions[::step]


def confusion(outcomes: Outcomes) -> np.ndarray:
    """Counts [truth, answer] at the most probable class."""
    k = len(outcomes.classes)
    return np.bincount(outcomes.targets * k + outcomes.predictions.argmax(axis=1), minlength=k * k).reshape(k, k)


def calibration_bins(outcomes: Outcomes, bins: int = 10) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean probability, observed share and count per bin of equal width; empty bins are left out."""
    if len(outcomes.classes) == 2:
        p, hit = outcomes.predictions[:, outcomes.positive], outcomes.targets == outcomes.positive
    else:
        p, hit = outcomes.predictions.max(axis=1), outcomes.predictions.argmax(axis=1) == outcomes.targets
    place = np.minimum((p * bins).astype(int), bins - 1)
    count = np.bincount(place, minlength=bins)
    full = count > 0
    mean = np.bincount(place, weights=p, minlength=bins)[full] / count[full]
    rate = np.bincount(place, weights=hit.astype(float), minlength=bins)[full] / count[full]
    return mean, rate, count[full]


def _matrix_html(classes: Sequence[str], matrix: np.ndarray) -> str:
    top = "".join(f"<th>{escape(label)}</th>" for label in classes)
    largest = max(int(matrix.max()), 1)
    rows = []
    for i, label in enumerate(classes):
        cells = []
        for j, n in enumerate(matrix[i].tolist()):
            shade = 0.08 + 0.6 * n / largest if n else 0
            color = f"rgba(27,108,168,{shade:.2f})" if i == j else f"rgba(200,85,61,{shade:.2f})"
            cells.append(f'<td class="cell" style="background:{color}">{n}</td>')
        rows.append(f"<tr><th>{escape(label)}</th>{''.join(cells)}</tr>")
    caption = "<caption>rows: truth, columns: answer</caption>"
    return f'<div class="scroll"><table>{caption}<tr><th></th>{top}</tr>{"".join(rows)}</table></div>'


def _missed(solution: Solution) -> str:
    data = solution.data
    names = [row.name for row in solution.rows]
    raws = [np.concatenate([fit.test for fit in solution.fits if fit.name == name]) for name in names]
    if not data.classification:
        truth = data.target.decode(data.y[data.test_rows])
        errors = [np.abs(raw - truth) for raw in raws]
        rows = [
            (name, float(np.median(error)), float(np.percentile(error, 95)), float(error.max()))
            for name, error in zip(names, errors, strict=True)
        ]
        return table(("model", "median error", "95th percentile", "largest"), rows)
    misses = missed_rows(data, raws)
    truth = data.y[data.test_rows]
    counts = []
    for name, raw in zip(names, raws, strict=True):
        wrong = raw.argmax(axis=1) != truth
        alone, shared = wrong & (misses == 1), wrong & (misses == len(names))
        counts.append((name, int(wrong.sum()), int(alone.sum()), int(shared.sum())))
    everyone = sorted(data.test_rows[misses == len(names)].tolist())
    words = f"Every model is wrong about {len(everyone):,} of {len(truth):,} rows"
    if everyone:
        words += ": rows " + ", ".join(map(str, everyone[:20])) + (" and more" if len(everyone) > 20 else "")
    words += ". Look at these first: a wrong label, or a column that is not there."
    return table(("model", "missed", "only this one missed", "all missed"), counts) + paragraph(words)


def _importance(solution: Solution, explanation: Explanation) -> str:
    if not explanation.rows:
        return paragraph(f"Not explained: {solution.data.metric} is undefined on the test rows of every part.")
    top = explanation.importances[:15]
    names, falls, spreads = zip(*[(one.column, one.fall, one.spread) for one in top], strict=True)
    words = (
        f"How far {solution.data.metric} falls on {explanation.rows:,} unseen rows when one column is shuffled; "
        "whiskers are one standard deviation over three shuffles."
    )
    return grid([figure(charts.bars(names, falls, spreads, "permutation importance"), words)])


def _rows(solution: Solution, explanation: Explanation) -> str:
    if not explanation.rows:
        return paragraph("No row is explained, because the columns' part could not be measured.")
    out = []
    kind = "probability" if solution.data.classification else "value"
    for one in explanation.explained:
        words = f"{one.why}: answered {one.answer} ({kind} {one.probability:.4g}), truth {one.truth}."
        rows = [(name, value, f"{effect:+.3g}") for name, value, effect in one.reasons]
        effects = table(("column", "value", "moves the answer by"), rows)
        out.append(f"<div><p><b>Row {one.row}</b>, {escape(words)}</p>{effects}</div>")
    note = paragraph("Against the mean answer when that one value is taken from 20 other rows.", muted=True)
    return grid(out) + note


def _groups(solution: Solution) -> str:
    gaps = {name: value for name, value in solution.winner.card.metrics.items() if name.startswith("gap(")}
    abstained = [one for one in solution.winner.card.verdicts if one.verifier == "power_dynamics" and one.abstained]
    if gaps:
        return table(
            ("gap", "value", "low", "high", "n"), [(name, v.value, v.low, v.high, v.n) for name, v in gaps.items()]
        )
    if abstained:
        return f"<p>{escape(abstained[0].reason)}</p>"
    return paragraph("No groups were named. VERIFY power_dynamics(groups=[COLUMN]) measures gaps between groups.")


def _data(solution: Solution) -> str:
    profile = solution.data.profile
    notes = "".join(f"<li>{escape(note)}</li>" for note in (*solution.data.notes, *solution.notes))
    rows = [
        (one.name, one.kind, one.role, one.distinct, f"{one.missing_share:.1%}", one.note) for one in profile.columns
    ]
    return f"<ul>{notes}</ul>" + table(("column", "kind", "role", "distinct", "missing", "note"), rows)


def _repeat(solution: Solution) -> str:
    task, version = solution.task, solution.winner.version
    hashes: list[tuple[str, Any]] = [
        ("data", solution.data.data_hash),
        ("seed", task.split.seed),
        ("alexandra", __version__),
    ]
    if version is not None:
        hashes += [(f"{version.ref} {name}", digest) for name, digest in sorted(version.blobs.items())]
    rows = [(name, Html(f"<code>{escape(str(value))}</code>")) for name, value in hashes]
    path = shlex.quote(str(solution.folder / "task.task"))
    command = (
        f"alexandra solve {path}" if task.data.kind != "frame" else "ax.solve(task)  # the table was given in memory"
    )
    took = paragraph(f"It took {render.duration(solution.seconds)}.", muted=True)
    return f"<pre>{escape(command)}</pre><pre>{escape(task.text())}</pre>{table(('what', 'hash or value'), rows)}{took}"
