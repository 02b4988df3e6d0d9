"""Run a recipe: the graph read -> deduplicate -> tokenizer -> tokenise -> mix, pack, shards, resumable at any point.

Every stage's output has a name that follows from its inputs and settings, is published whole, and is not made again.
So a run that was killed goes on where it was, a changed recipe repeats only what changed, and the result is the same
bytes for any number of workers. Local processes by default; Ray Data when the recipe says so.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from alexandra import storage, workers
from alexandra.data.filters.ngrams import NgramModel
from alexandra.data.flow import Ledger
from alexandra.data.formats import Part, ReadOptions, cuts, files_of, format_of
from alexandra.data.run.assemble import Tokenised, make_tokenizer, publish_corpus, write_shards
from alexandra.data.run.deduplicate import add_to_index, deduplicate
from alexandra.data.run.folders import locked, open_array, sweep
from alexandra.data.run.ray_place import run_on_ray
from alexandra.data.run.recipe import Recipe, key_of
from alexandra.data.run.stages import ReadTask, TokenTask, Unit, read_unit, tokenise_unit
from alexandra.data.steps import texts_of, validate_step
from alexandra.data.tokens.tokenizer import Encoder

GROUP_BYTES, GROUP_FILES = 8 << 20, 1000
VERSION = 1  # of what stages write; a new one makes every stage run again
Progress = Callable[[str, int, int], None]


@dataclass
class Outcome:
    """What a run did. totals: the whole ledger; by_source: one each; deduplication: in, out and losses."""

    output: str
    work: str
    totals: dict[str, Any]
    by_source: dict[str, dict[str, Any]]
    losses: dict[str, int]
    deduplication: dict[str, Any]
    documents: int
    corpus: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


class Runner:
    """One recipe in its folder. `run` does everything; the parts are for those who want the pieces."""

    def __init__(self, recipe: Recipe, place: Path, progress: Progress | None = None) -> None:
        self.place = place.resolve()
        self.output = self.place / recipe.output
        self.work = self.place / (recipe.work or f"{recipe.output}.work")
        self.progress: Progress = progress or (lambda stage, done, total: None)
        self.recipe = recipe
        self.units: list[Unit] = []

    def run(self) -> Outcome:
        """Do what is not done yet."""
        with locked(self.work):
            sweep(self.work)
            if self.output.is_dir():
                sweep(self.output)
            return self._run()

    def _run(self) -> Outcome:
        prepared = self._with_models()
        text = prepared.model_dump_json()
        self.units = self._plan(prepared)
        stamp = key_of(*map(self._stamped, prepared.model_dump(mode="json")["steps"]))
        tasks = [ReadTask(text, str(self.place), unit, stamp) for unit in self.units]
        self._each(read_unit, [task for task in tasks if not Path(task.unit.folder).is_dir()], "read", len(tasks))
        folders = [Path(unit.folder) for unit in self.units]
        outcome = self._report(folders)
        key = key_of(VERSION, [folder.name for folder in folders], *self._settings("exact", "paragraphs", "minhash"))
        drops = self.work / "drops" / key
        self.progress("deduplicate", 0, 1)
        deduplicate(self.recipe, folders, drops, self.place)
        self.progress("deduplicate", 1, 1)
        outcome.deduplication = storage.read_json(drops / "losses.json")
        outcome.documents = outcome.deduplication["out"]
        for reason, count in outcome.deduplication["lost"].items():
            outcome.losses[f"deduplicate: {reason}"] = count
        if self.recipe.tokenizer is not None:
            outcome.corpus = self._tokens(folders, drops, key)
            add_to_index(self.recipe, folders, drops, self.place)
        self._check(outcome)
        storage.publish_json(self.output / "outcome.json", {k: v for k, v in vars(outcome).items() if k != "seconds"})
        return outcome

    def plan(self) -> list[Unit]:
        """The units of the recipe, done or not."""
        return self._plan(self._with_models())

    def _settings(self, *names: str) -> list[Any]:
        body = self.recipe.model_dump(mode="json")
        return [body[name] for name in names]

    def _with_models(self) -> Recipe:
        """Steps that learn from reference text do so once, here; workers get the saved model."""
        rows = []
        for row in self.recipe.steps:
            row = dict(row)
            if row["use"] in ("perplexity", "quality") and not row.get("model"):
                settings: Any = validate_step(row)
                pattern = settings.reference if row["use"] == "perplexity" else settings.labelled
                inputs = [storage.content_hash(path.read_bytes()) for path in files_of(pattern, self.place)]
                path = self.work / "models" / f"{key_of(VERSION, row, inputs)}.safetensors"
                if not path.exists():
                    made: Any = (
                        NgramModel.train(texts_of(pattern, self.place), settings.order)
                        if row["use"] == "perplexity"
                        else settings.trained(self.place)
                    )
                    made.save(path)
                row = {key: value for key, value in row.items() if key not in ("reference", "labelled")}
                row["model"] = str(path)
            rows.append(row)
        return self.recipe.model_copy(update={"steps": tuple(rows)})

    def _plan(self, prepared: Recipe) -> list[Unit]:
        """A unit for each part of a large file and for each group of small ones, named by the files' content and by all
        that shapes their documents.
        """
        body = prepared.model_dump(mode="json")
        steps = [self._stamped(row) for row in body["steps"]]
        units: list[Unit] = []
        groups = 0
        for number, source in enumerate(prepared.sources):
            about = {key: value for key, value in body["sources"][number].items() if key != "files"}
            files = files_of(source.files, self.place, source.format)
            base = Path(os.path.commonpath([path.parent for path in files]))
            shape = [VERSION, about, steps, body["exact"], body["paragraphs"], body["minhash"]]
            for group in _groups(files):
                groups += 1
                for share in _shares(group, self.recipe.run.part_bytes):
                    names = tuple(path.relative_to(base).as_posix() for path in share)
                    stamps = [_stamp(path) for path in share]
                    for part in self._parts(share, stamps, source.format, source.options()):
                        cut = [asdict(part)] if part != Part() else []
                        folder = str(self.work / "units" / key_of(*shape, list(names), stamps, *cut))
                        units.append(Unit(number, tuple(map(str, share)), names, folder, part, groups))
        return units

    def _stamped(self, row: dict[str, Any]) -> dict[str, Any]:
        """A step with the content of the files that it names in place of their paths."""
        if row["use"] == "decontaminate":
            sets = {name: [_stamp(path) for path in files_of(files, self.place)] for name, files in row["sets"].items()}
            return {**row, "sets": sets}
        if not row.get("model"):
            return row
        path = self.place / row["model"]
        return {**row, "model": path.name if path.is_relative_to(self.work) else _stamp(path)}

    def _parts(self, share: list[Path], stamps: list[Any], kind: str, options: ReadOptions) -> list[Part]:
        """The parts of a file that stands alone; found once, and kept in the work folder."""
        path, part_bytes = share[0], self.recipe.run.part_bytes
        if not _is_large(path, part_bytes):
            return [Part()]
        kind = kind or format_of(path)
        name = key_of(VERSION, stamps, kind, options.split, options.max_record_bytes, part_bytes)
        kept = self.work / "cuts" / f"{name}.json"
        if not kept.exists():
            storage.publish_json(kept, [asdict(part) for part in cuts(path, kind, options, part_bytes)])
        return [Part(**body) for body in storage.read_json(kept)]

    def _each(self, function: Callable[[Any], Any], tasks: list[Any], stage: str, total: int) -> None:
        """Run `function` over tasks whose results are folders; a task that fails stops the run with its name."""
        done = total - len(tasks)
        self.progress(stage, done, total)
        for _ in self._results(function, tasks):
            done += 1
            self.progress(stage, done, total)

    def _results(self, function: Callable[[Any], Any], tasks: list[Any]) -> Iterator[Any]:
        settings = self.recipe.run
        if settings.place == "ray" and tasks:
            yield from run_on_ray(function, tasks, settings.workers)
        elif settings.workers == 1:
            yield from map(function, tasks)
        else:
            with workers.Pool(min(settings.workers, max(1, len(tasks)))) as pool:
                limit = settings.file_seconds or None
                for result in pool.stream(function, tasks, limit):
                    yield from workers.values([result])

    def _report(self, folders: list[Path]) -> Outcome:
        totals, by_source = Ledger(), {source.name: Ledger() for source in self.recipe.sources}
        seconds: dict[str, float] = {}
        for unit, folder in zip(self.units, folders, strict=True):
            body = storage.read_json(folder / "ledger.json")
            totals.add(Ledger.from_dict(body))
            by_source[self.recipe.sources[unit.source].name].add(Ledger.from_dict(body))
            for step, value in storage.read_json(folder / "seconds.json").items():
                seconds[step] = seconds.get(step, 0.0) + value
        totals.check()
        return Outcome(
            str(self.output),
            str(self.work),
            totals.to_dict(),
            {name: ledger.to_dict() for name, ledger in by_source.items()},
            totals.losses(),
            {},
            totals.kept,
            seconds=seconds,
        )

    def _check(self, outcome: Outcome) -> None:
        lost = sum(outcome.losses.values())
        assert outcome.totals["records"] == outcome.documents + lost, "a document was lost without a name"

    def _by_file(self, pairs: list[tuple[Path, Path]]) -> list[list[tuple[Path, Path]]]:
        """What belongs to the units, together what one group is cut into: the tokenizer does not see the cuts."""
        out: dict[int, list[tuple[Path, Path]]] = {}
        for unit, pair in zip(self.units, pairs, strict=True):
            out.setdefault(unit.group, []).append(pair)
        return list(out.values())

    def _tokens(self, folders: list[Path], drops: Path, key: str) -> dict[str, Any]:
        settings, paragraphs = self.recipe.tokenizer, self.recipe.paragraphs
        assert settings is not None
        pairs = [(folder, drops / f"{number:06d}") for number, folder in enumerate(folders)]
        if settings.folder:
            tokenizer = self.place / settings.folder
            end = "" if settings.end == type(settings)().end else settings.end
        else:
            tokenizer = (
                self.work / "tokenizers" / key_of(VERSION, key, settings.model_dump(mode="json"), self.recipe.seed)
            )
            end = settings.end
            self.progress("tokenizer", 0, 1)
            make_tokenizer(settings, self._by_file(pairs), paragraphs, tokenizer, self.recipe.seed)
            self.progress("tokenizer", 1, 1)
        encoder = Encoder.from_folder(tokenizer, end)
        stamp = storage.content_hash(storage.read_bytes(tokenizer / "tokenizer.json"))
        tasks = []
        for folder, gone in pairs:
            marks = (gone / "gone").read_bytes() + ((gone / "paragraphs_gone").read_bytes() if paragraphs else b"")
            name = key_of(VERSION, folder.name, storage.content_hash(marks), stamp, encoder.end)
            given = paragraphs.model_dump_json() if paragraphs is not None else ""
            tasks.append(
                TokenTask(str(folder), str(gone), str(tokenizer), end, str(self.work / "tokens" / name), given)
            )
        # Two equal files give one folder, so it is made once.
        todo = {task.folder: task for task in tasks if not Path(task.folder).is_dir()}
        self._each(tokenise_unit, list(todo.values()), "tokenise", len(tasks))
        tokenised = Tokenised.open(
            [Path(task.folder) for task in tasks], [unit.source for unit in self.units], encoder.dtype.str
        )
        written = write_shards(
            self.recipe, tokenised, encoder, self.output, lambda done, total: self.progress("shards", done, total)
        )
        about = {"seed": self.recipe.seed, "format": self.recipe.shards.format, "tokenizer": stamp, "end": encoder.end}
        return publish_corpus(self.output, written, tokenizer, {**about, "vocabulary": encoder.vocabulary})


def _groups(files: list[Path]) -> Iterator[list[Path]]:
    """Files in their order, small ones together: a folder of outputs for each source file of a program is too many."""
    group: list[Path] = []
    size = 0
    for path in files:
        more = path.stat().st_size if path.is_file() else GROUP_BYTES
        if group and (size + more > GROUP_BYTES or len(group) >= GROUP_FILES):
            yield group
            group, size = [], 0
        group.append(path)
        size += more
    if group:
        yield group


def _shares(group: list[Path], part_bytes: int) -> Iterator[list[Path]]:
    """A group in its order, each file of more than `part_bytes` by itself."""
    share: list[Path] = []
    for path in group:
        if _is_large(path, part_bytes):
            yield from [share, [path]] if share else [[path]]
            share = []
        else:
            share.append(path)
    if share:
        yield share


def _is_large(path: Path, part_bytes: int) -> bool:
    return path.is_file() and path.stat().st_size > part_bytes


def _stamp(path: Path) -> Any:
    """What tells two versions of a file apart: its content's hash; of a folder, its files' names, sizes and hashes."""
    if path.is_dir():
        from alexandra.data.formats.repositories import repository_files

        return [[one.relative_to(path).as_posix(), _stamp(one)] for one in repository_files(path)]
    return _file_hash(path)


def _file_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()[:32]


def kept_counts(drops: Path, units: int) -> list[int]:
    """How many documents of each unit stay."""
    return [int((~open_array(drops / f"{number:06d}/gone", "|b1")).sum()) for number in range(units)]


def summary(outcome: Mapping[str, Any]) -> list[str]:
    """The run in lines of text."""
    lines = [f"{outcome['totals']['records']:,} records in, {outcome['documents']:,} documents out"]
    lines += [
        f"  {count:>10,}  {reason}"
        for reason, count in sorted(outcome["losses"].items(), key=lambda one: -one[1])
        if count
    ]
    corpus = outcome.get("corpus") or {}
    if corpus:
        share = f"{100 * corpus['filled']:.2f} % of positions used"
        lines.append(f"{corpus['tokens']:,} tokens in {corpus['rows']:,} rows of {corpus['length']:,}; {share}")
    return lines
