"""The report is one self-contained page: every section filled, values escaped, hashes those of the registry."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alexandra.api import operations
from alexandra.lang.task_spec import DataSource, FamilyRef, Split, Task, VerifierRef
from alexandra.registry.store import Registry
from alexandra.train.solve import Solution

HOSTILE = "<b>x</b>"
CLASSES = {
    "binary": ['say "yes" & go', "it's <script>alert(1)</script> no"],
    "multiclass": ["a", 'b"', "<c>"],
    "regression": [],
}
MARKS = {"polyline", "rect", "circle"}
ELEMENTS = {
    *("html", "head", "meta", "link", "title", "style", "body", "h1", "h2", "p", "b", "ul", "li", "section", "div"),
    *("table", "caption", "tr", "th", "td", "code", "pre", "span", "figure", "figcaption", "svg", "text", "line"),
    *MARKS,
}


def task(kind: str, n: int = 240) -> Task:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 2))
    city = rng.choice(["north", 'so"uth', "<i>west</i>"], n)
    signal = x[:, 0] - 0.7 * x[:, 1] + 0.5 * rng.normal(size=n)
    labels = np.array(CLASSES[kind], dtype=object)
    y = labels[np.digitize(signal, [0.0] if kind == "binary" else [-0.5, 0.5])] if kind != "regression" else signal
    data = {HOSTILE: x[:, 0], 'w"2': x[:, 1], "city": city, "y": y}
    networks = (FamilyRef("tabular", (0, 1), (8, 8)),)
    verify = (VerifierRef("empirical"), VerifierRef("power_dynamics", (("groups", ("city",)), ("min_rows", 10))))
    about = "Is it <b>bold</b>?"
    split = Split(folds=2, seed=1)
    return Task(DataSource.frame(data), "y", f"r_{kind}", about, networks=networks, split=split, verify=verify)


@dataclass
class Table:
    rows: list[list[str]] = field(default_factory=list)


class Page(HTMLParser):
    """The page as sections with their text, tables and figures, and every element and attribute that occurs."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.text: dict[str, str] = {"": ""}
        self.tables: dict[str, list[Table]] = {}
        self.figures: dict[str, list[set[str]]] = {}
        self.captions: list[str] = []
        self.bold: list[str] = []
        self.title = ""
        self._open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag in ("meta", "link", "line", "rect"):
            self.handle_mark(tag)
            return
        self._open.append(tag)
        if tag == "h2":
            self.title = ""
        elif tag == "table":
            self.tables.setdefault(self.title, []).append(Table())
        elif tag == "tr":
            self.tables[self.title][-1].rows.append([])
        elif tag in ("td", "th"):
            self.tables[self.title][-1].rows[-1].append("")
        elif tag == "svg":
            self.figures.setdefault(self.title, []).append(set())
        elif tag in ("caption", "figcaption"):
            self.captions.append("")
        elif tag == "b":
            self.bold.append("")
        self.handle_mark(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        self.handle_mark(tag)

    def handle_mark(self, tag: str) -> None:
        if tag in MARKS and self.title in self.figures:
            self.figures[self.title][-1].add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, "every element is closed where it belongs"
        if tag != "h2":
            self.text[self.title] = self.text.get(self.title, "") + " "

    def handle_data(self, data: str) -> None:
        inside = self._open[-1] if self._open else ""
        if inside == "h2":
            self.title += data
        elif inside != "style":
            self.text[self.title] = self.text.get(self.title, "") + data
        if {"td", "th"} & set(self._open) and "table" in self._open:
            self.tables[self.title][-1].rows[-1][-1] += data
        if inside in ("caption", "figcaption"):
            self.captions[-1] += data
        if inside == "b":
            self.bold[-1] += data


@pytest.fixture(scope="module", params=sorted(CLASSES))
def reported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Solution, str, Page]:
    folder = tmp_path_factory.mktemp(request.param)
    solution = operations.solve(task(request.param), registry=Registry(folder / "r"), runs=folder / "runs")
    assert solution.report is not None
    html = solution.report.read_text(encoding="utf-8")
    return solution, html, Page(html)


Reported = tuple[Solution, str, Page]


def test_nothing_is_fetched_and_nothing_runs(reported: Reported) -> None:
    _, html, page = reported
    assert not re.search(r"https?://|//[a-z]|url\(|@import|<script|<iframe|<img|<object", html, re.IGNORECASE)
    assert page.elements <= ELEMENTS
    assert [value for name, value in page.attributes if name in ("src", "href")] == ["data:,"]
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert len(html.encode()) < 400_000


def test_every_section_is_filled(reported: Reported) -> None:
    solution, _, page = reported
    mistakes = "Confusion and calibration" if solution.data.classification else "Residuals"
    assert list(page.text)[1:] == [
        "Decision",
        "Models",
        "Learning curves",
        "Scorecard",
        mistakes,
        "What each candidate missed",
        "Which columns matter",
        "A few rows, explained",
        "Groups",
        "Data",
        "Repeat it",
    ]
    assert all(len(text.split()) >= 5 for text in page.text.values())
    tables = [(title, one) for title, found in page.tables.items() for one in found]
    for title, one in tables:
        head, *rows = one.rows
        assert rows and all(len(row) == len(head) for row in rows), title
        assert all(any(cell.strip() for cell in row) for row in rows), title
    assert all(marks for found in page.figures.values() for marks in found), "every chart draws something"
    assert {"Learning curves", mistakes, "Which columns matter"} <= set(page.figures)
    assert all(caption.strip() for caption in page.captions)
    assert "nan" not in re.findall(r"\w+", " ".join(page.text.values()).lower())


def test_the_figures_are_the_solution_s(reported: Reported) -> None:
    solution, _, page = reported
    metric = str(solution.data.metric)
    models = {row[0].removeprefix("baseline "): row for row in page.tables["Models"][0].rows[1:]}
    assert {name: row[2] for name, row in models.items()} == {
        row.name: str(row.metric(metric)) for row in solution.rows
    }
    scores = {row[0]: row[1:] for row in page.tables["Scorecard"][0].rows[1:]}
    for name, value in solution.winner.card.metrics.items():
        assert float(scores[name][0]) == pytest.approx(value.value, rel=1e-3)
        assert float(scores[name][1]) == pytest.approx(value.low, rel=1e-3)
    if solution.data.classification:
        counts = [[int(cell) for cell in row[1:]] for row in page.tables["Confusion and calibration"][0].rows[1:]]
        outcomes = solution.winner.card.outcomes
        assert np.sum(counts) == outcomes.n
        assert np.trace(counts) == (outcomes.predictions.argmax(axis=1) == outcomes.targets).sum()


def test_the_hashes_are_the_registry_s(reported: Reported) -> None:
    solution, _, page = reported
    version = solution.winner.version
    assert version is not None
    shown = {row[0]: row[1] for row in page.tables["Repeat it"][0].rows[1:]}
    stored = Registry(solution.folder.parents[2] / "r").get(version.ref)
    for name, digest in stored.blobs.items():
        assert shown[f"{version.ref} {name}"] == digest
    assert shown["data"] == solution.data.data_hash == stored.lineage["data_hash"]
    assert shown["seed"] == "1"


def test_values_of_the_table_are_text_never_markup(reported: Reported) -> None:
    solution, html, page = reported
    kind = solution.task.name.removeprefix("r_")
    assert "x" not in page.bold and "bold" not in page.bold
    assert "Is it <b>bold</b>?" in page.text[""]
    assert HOSTILE in page.text["Which columns matter"] and 'w"2' in page.text["Which columns matter"]
    assert [row[0] for row in page.tables["Data"][0].rows[1:]] == [HOSTILE, 'w"2', "city", "y"]
    for label in CLASSES[kind]:
        assert label in [cell for row in page.tables["Confusion and calibration"][0].rows for cell in row]
        assert "<" not in label or label not in html
    if kind == "binary":
        assert all(city in page.text["Groups"] + page.text["Scorecard"] for city in ("<i>west</i>", 'so"uth'))


def test_the_program_on_the_page_is_the_task_that_ran(reported: Reported) -> None:
    solution, _, page = reported
    assert solution.task.text().strip() in page.text["Repeat it"]


def test_a_table_of_a_few_rows_has_a_report(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    data: dict[str, Any] = {"a": rng.normal(size=12), "b": rng.normal(size=12), "y": rng.normal(size=12)}
    networks = (FamilyRef("tabular", (0, 0), (8, 8)),)
    few = Task(DataSource.frame(data), "y", "few", networks=networks, split=Split(folds=6, seed=1))
    solution = operations.solve(few, registry=tmp_path / "r", runs=tmp_path / "runs")
    assert solution.report is not None
    page = Page(solution.report.read_text(encoding="utf-8"))
    assert all(one.rows[1:] for found in page.tables.values() for one in found)


def test_many_classes_without_a_mistake_are_said_in_words(tmp_path: Path) -> None:
    labels = [f"k{i % 40:02d}" for i in range(400)]
    data: dict[str, Any] = {"a": [f"{label}!" for label in labels], "b": np.arange(400) % 7, "y": labels}
    networks = (FamilyRef("tabular", (1, 1), (64, 64)),)
    many = Task(DataSource.frame(data), "y", "many", networks=networks, split=Split(folds=2, seed=1))
    solution = operations.solve(many, registry=tmp_path / "r", runs=tmp_path / "runs", keep_leaks=True)
    assert solution.report is not None
    page = Page(solution.report.read_text(encoding="utf-8"))
    assert all(one.rows[1:] for found in page.tables.values() for one in found)
    wrong = solution.winner.card.outcomes.predictions.argmax(axis=1) != solution.winner.card.outcomes.targets
    assert ("No row was answered wrongly." in page.text["Confusion"]) == (not wrong.any())
