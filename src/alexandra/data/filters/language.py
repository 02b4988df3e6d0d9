"""Which language a text is in: py3langid's n-gram model (97 languages) over the beginning, middle and end.

Standards of one language are merged, because short texts cannot tell them apart and neither can people: Norwegian
(no = nb, nn), Malay and Indonesian (id), Serbo-Croatian (sh = hr, sr, bs). `LanguageFilter` keeps the wanted ones.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from alexandra.config import Config
from alexandra.errors import missing_extra

MERGED = {"nb": "no", "nn": "no", "ms": "id", "hr": "sh", "sr": "sh", "bs": "sh"}
WINDOW, SHORT = 700, 40


@cache
def _model() -> Any:
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError as error:
        raise missing_extra("language identification", "data") from error
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def language_of(text: str, merge: bool = True) -> tuple[str, float]:
    """(ISO 639-1 code, probability); ("und", 0.0) where there are hardly any letters."""
    sample = " ".join(_sample(text).split())
    if sum(map(str.isalpha, sample)) < 3:
        return "und", 0.0
    code, probability = _model().classify(sample)
    code = str(code)
    return (MERGED.get(code, code) if merge else code), float(probability)


def _sample(text: str) -> str:
    if len(text) <= 3 * WINDOW:
        return text
    middle = len(text) // 2
    return f"{text[:WINDOW]} {text[middle : middle + WINDOW]} {text[-WINDOW:]}"


class LanguageFilter(Config):
    """Keeps documents in `languages` (all, if none is named) with at least `min_probability`."""

    languages: tuple[str, ...] = ()
    min_probability: float = 0.65

    def reason(self, language: str, probability: float) -> str:
        wanted = {MERGED.get(code, code) for code in self.languages}
        if wanted and language not in wanted:
            return "other_language"
        return "" if probability >= self.min_probability else "unsure_language"
