"""Decisions and reasons of the Gopher, C4 and FineWeb rules equal datatrove's, document by document."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from alexandra.data.filters.gopher import SIGNS, GopherQuality, GopherRepetition
from alexandra.data.filters.web_rules import C4Paragraphs, C4Quality, FineWeb
from alexandra.data.filters.words import english

pytestmark = pytest.mark.slow
DOCUMENTS = 20_000


def load_corpus(folder: Path, count: int) -> list[str]:
    spec = importlib.util.spec_from_file_location("filter_corpus", Path(__file__).with_name("corpus.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return list(module.corpus(folder, count))


def test_every_decision_and_reason_equals_the_peers(real_data: Path) -> None:
    pytest.importorskip("spacy")
    filters = pytest.importorskip("datatrove.pipeline.filters")
    Document = pytest.importorskip("datatrove.data").Document
    peer_signs = pytest.importorskip("datatrove.utils.text").PUNCTUATION_SET
    assert peer_signs == SIGNS
    names = ("GopherRepetitionFilter", "GopherQualityFilter", "C4ParagraphFilter", "FineWebQualityFilter")
    theirs = [getattr(filters, name)() for name in names]
    ours = [GopherRepetition(), GopherQuality(), C4Paragraphs(), FineWeb()]
    c4, our_c4 = filters.C4QualityFilter(), C4Quality()
    differences: list[str] = []
    reasons: set[str] = set()

    def reason(answer: object) -> str:
        return "" if answer is True else str(answer[1])  # type: ignore[index]

    for text in load_corpus(real_data, DOCUMENTS):
        for their, our in zip(theirs, ours, strict=True):
            expected, found = reason(their.filter(Document(text=text, id=""))), our.reason(text)
            reasons.add(expected)
            if expected != found:
                differences.append(f"{their.name}: {expected!r} {found!r} {text[:80]!r}")
        document = Document(text=text, id="")
        expected = reason(c4.filter(document))
        kept, found = our_c4.apply(text)
        reasons.add(expected)
        if expected != found or (not found and kept != document.text):
            differences.append(f"C4: {expected!r} {found!r} {text[:80]!r}")
    assert not differences, f"{len(differences)} of {DOCUMENTS}: " + "\n".join(differences[:10])
    assert len(reasons) >= 25, f"the corpus exercises too few reasons: {sorted(reasons)}"


def test_words_equal_spacys(real_data: Path) -> None:
    pytest.importorskip("spacy")
    peer = pytest.importorskip("datatrove.utils.word_tokenizers").load_word_tokenizer("en")
    for text in load_corpus(real_data, 800):
        assert english().words(text) == peer.word_tokenize(text)
