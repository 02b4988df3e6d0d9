"""The steps that a recipe may name: a table from the name to its settings, each of which builds a function.

    [[steps]]
    use = "gopher_quality"
    min_words = 40

To add a step: a Config here with `build(place) -> Apply`, its row in STEPS, its line in docs/data.md, a test that its
drops are counted. Rules made for prose pass code and conversations by; `kinds` says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from alexandra.config import Config, validate
from alexandra.data.clean import personal, text
from alexandra.data.clean.main_text import main_text, whole_text
from alexandra.data.filters.contamination import RUN_WORDS, Contamination
from alexandra.data.filters.gopher import GopherQuality, GopherRepetition
from alexandra.data.filters.language import LanguageFilter, language_of
from alexandra.data.filters.ngrams import NgramModel
from alexandra.data.filters.quality import QualityModel
from alexandra.data.filters.ratios import Ratios
from alexandra.data.filters.web_rules import C4Paragraphs, C4Quality, FineWeb
from alexandra.data.flow import Apply, Drop, Outcome, Step
from alexandra.data.formats import ReadOptions, files_of, read_file
from alexandra.errors import ConfigError, suggest
from alexandra.records import Document

PROSE = ("prose",)


class StepSettings(Protocol):
    """What a row of STEPS has; `place` is the recipe's folder, for files that the settings name."""

    def build(self, place: Path) -> Apply: ...


class Extract(Config):
    """HTML to text: the main text, or with whole = true everything visible. Other documents pass."""

    whole: bool = False

    def build(self, place: Path) -> Apply:
        def apply(document: Document) -> Outcome:
            if document.kind != "html":
                return document
            read = whole_text if self.whole or document.metadata.get("whole") else main_text
            found = read(document.text)
            return replace(document, text=found, kind="prose") if found else Drop("no_text_in_page")

        return apply


def _rewrite(change: Callable[[str], str]) -> Apply:
    def apply(document: Document) -> Outcome:
        found = change(document.text)
        if not found.strip():
            return Drop("empty")
        return document if found == document.text else replace(document, text=found)

    return apply


class Clean(Config):
    """The seed's order: encoding, control characters, white space, runs of one character. Code keeps its layout."""

    encoding: bool = True
    white_space: bool = True
    runs: bool = True

    def build(self, place: Path) -> Apply:
        def prose(value: str) -> str:
            value = text.without_controls(text.repair_encoding(value) if self.encoding else value)
            value = text.tidy_white_space(value) if self.white_space else value
            return text.shorten_runs(value) if self.runs else value

        code, words = _rewrite(text.clean_code), _rewrite(prose)
        return lambda document: (code if document.kind == "code" else words)(document)


class Personal(Config):
    """Personal data becomes [EMAIL], [PHONE] and so on; counts go to the metadata as personal_<TYPE>."""

    types: tuple[str, ...] = personal.DEFAULT_KINDS

    def build(self, place: Path) -> Apply:
        unknown = [kind for kind in self.types if kind not in personal.KINDS]
        if unknown:
            raise ConfigError(f"unknown type of personal data {unknown[0]!r}", hint=suggest(unknown[0], personal.KINDS))

        def apply(document: Document) -> Outcome:
            found, spans = personal.replace_personal(document.text, self.types)
            if not spans:
                return document
            counts = {f"personal_{kind}": sum(span.kind == kind for span in spans) for kind in {s.kind for s in spans}}
            return replace(document, text=found, metadata={**document.metadata, **dict(sorted(counts.items()))})

        return apply


def _drop_on(reason: Callable[[Document], str], kinds: tuple[str, ...] = ()) -> Apply:
    """Drops a document, of one of `kinds` if any are named, for which `reason` gives one."""

    def apply(document: Document) -> Outcome:
        why = "" if kinds and document.kind not in kinds else reason(document)
        return Drop(why) if why else document

    return apply


class RatiosStep(Ratios):
    """The seed's rules of length and ratios."""

    def build(self, place: Path) -> Apply:
        return _drop_on(lambda document: self.reason(document.text, document.kind == "code"))


class GopherQualityStep(GopherQuality):
    kinds: tuple[str, ...] = PROSE

    def build(self, place: Path) -> Apply:
        return _drop_on(lambda document: self.reason(document.text), self.kinds)


class GopherRepetitionStep(GopherRepetition):
    kinds: tuple[str, ...] = PROSE

    def build(self, place: Path) -> Apply:
        return _drop_on(lambda document: self.reason(document.text), self.kinds)


class C4ParagraphsStep(C4Paragraphs):
    kinds: tuple[str, ...] = PROSE

    def build(self, place: Path) -> Apply:
        return _drop_on(lambda document: self.reason(document.text), self.kinds)


class FineWebStep(FineWeb):
    kinds: tuple[str, ...] = PROSE

    def build(self, place: Path) -> Apply:
        return _drop_on(lambda document: self.reason(document.text), self.kinds)


class C4Step(C4Quality):
    kinds: tuple[str, ...] = PROSE

    def build(self, place: Path) -> Apply:
        def apply(document: Document) -> Outcome:
            if document.kind not in self.kinds:
                return document
            kept, why = self.apply(document.text)
            return Drop(why) if why else replace(document, text=kept)

        return apply


class LanguageStep(LanguageFilter):
    """Writes `language` and `language_probability` to the metadata; drops what is not wanted."""

    kinds: tuple[str, ...] = PROSE

    def build(self, place: Path) -> Apply:
        def apply(document: Document) -> Outcome:
            if document.kind not in self.kinds:
                return document
            language, probability = language_of(document.text)
            why = self.reason(language, probability)
            if why:
                return Drop(why)
            found = {"language": language, "language_probability": round(probability, 4)}
            return replace(document, metadata={**document.metadata, **found})

        return apply


class Licence(Config):
    """Keeps code under the named licences (SPDX names)."""

    allowed: tuple[str, ...] = ("MIT", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "Unlicense", "CC0-1.0")
    unknown: bool = False

    def build(self, place: Path) -> Apply:
        def reason(document: Document) -> str:
            licence = document.metadata.get("licence", "")
            if licence in self.allowed or (self.unknown and not licence):
                return ""
            return "licence" if licence else "no_licence"

        return _drop_on(reason, ("code",))


class Perplexity(Config):
    """An n-gram model of the reference text, or a saved one; documents outside [minimum, maximum] go."""

    reference: str = ""
    model: str = ""
    order: int = 5
    minimum: float = 0.0
    maximum: float = 2000.0
    kinds: tuple[str, ...] = PROSE

    def build(self, place: Path) -> Apply:
        if bool(self.reference) == bool(self.model):
            raise ConfigError("perplexity needs either reference = FILES or model = FILE")
        model = (
            NgramModel.load(place / self.model)
            if self.model
            else NgramModel.train(texts_of(self.reference, place), self.order)
        )

        def reason(document: Document) -> str:
            value = model.perplexity(document.text)
            return "perplexity_high" if value > self.maximum else "perplexity_low" if value < self.minimum else ""

        return _drop_on(reason, self.kinds)


class Quality(Config):
    """A classifier trained from labelled texts ("text" and a true or false "label" field), or a saved one."""

    labelled: str = ""
    model: str = ""
    label: str = "label"
    minimum: float = 0.5
    kinds: tuple[str, ...] = PROSE

    def build(self, place: Path) -> Apply:
        if bool(self.labelled) == bool(self.model):
            raise ConfigError("quality needs either labelled = FILES or model = FILE")
        model = QualityModel.load(place / self.model) if self.model else self.trained(place)

        def apply(document: Document) -> Outcome:
            if document.kind not in self.kinds:
                return document
            score = float(model.scores([document.text])[0])
            if score < self.minimum:
                return Drop("low_quality")
            return replace(document, metadata={**document.metadata, "quality": round(score, 4)})

        return apply

    def trained(self, place: Path) -> QualityModel:
        documents = list(_documents(self.labelled, place, ReadOptions()))
        absent = [one.id for one in documents if self.label not in one.metadata]
        if absent:
            raise ConfigError(f"{absent[0]}: no field {self.label!r} says whether to keep it")
        keep = [one.metadata[self.label] in (True, 1, "1", "true", "keep", "good") for one in documents]
        return QualityModel.train([one.text for one in documents], keep)


class Decontaminate(Config):
    """Drops documents that share `words` words in a row with the named evaluation sets."""

    sets: Mapping[str, str]
    fields: tuple[str, ...] = ("text", "question", "problem", "prompt", "passage")
    words: int = RUN_WORDS

    def build(self, place: Path) -> Apply:
        items: dict[str, list[str]] = {}
        for name, pattern in self.sets.items():
            items[name] = []
            for field in self.fields:
                items[name] += [one.text for one in _documents(pattern, place, ReadOptions(text=field))]
            if not items[name]:
                raise ConfigError(f"the evaluation set {name!r} has none of the fields {', '.join(self.fields)}")
        index = Contamination(items, self.words)

        def reason(document: Document) -> str:
            name = index.found(document.text)
            return f"contains_{name}" if name else ""

        return _drop_on(reason)


def _documents(pattern: str, place: Path, options: ReadOptions) -> Iterator[Document]:
    for path in files_of(pattern, place):
        yield from (record for record in read_file(path, options) if isinstance(record, Document))


def texts_of(pattern: str, place: Path) -> Iterator[str]:
    return (document.text for document in _documents(pattern, place, ReadOptions()))


STEPS: dict[str, type[Config]] = {
    "extract": Extract,
    "clean": Clean,
    "personal": Personal,
    "ratios": RatiosStep,
    "gopher_repetition": GopherRepetitionStep,
    "gopher_quality": GopherQualityStep,
    "c4": C4Step,
    "c4_paragraphs": C4ParagraphsStep,
    "fineweb": FineWebStep,
    "language": LanguageStep,
    "licence": Licence,
    "perplexity": Perplexity,
    "quality": Quality,
    "decontaminate": Decontaminate,
}


def validate_step(row: Mapping[str, Any], source: str = "recipe") -> Config:
    """The settings of one row of a recipe's steps."""
    name = str(row.get("use", ""))
    if name not in STEPS:
        raise ConfigError(f"{source}: unknown step {name!r}", hint=suggest(name, STEPS))
    return validate({key: value for key, value in row.items() if key != "use"}, STEPS[name], f"{source}: {name}")


def build_steps(rows: tuple[Mapping[str, Any], ...], place: Path, source: str = "recipe") -> list[Step]:
    """The steps of a recipe, ready to run; a second one of the same kind gets a number."""
    out: list[Step] = []
    for row in rows:
        name = str(row.get("use", ""))
        settings: Any = validate_step(row, source)
        taken = sum(step.name.partition("#")[0] == name for step in out)
        out.append(Step(f"{name}#{taken + 1}" if taken else name, settings.build(place)))
    return out
