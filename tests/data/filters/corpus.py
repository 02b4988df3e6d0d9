"""Documents of many kinds for filter tests: real text where it is, and what web pages do to it."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

from alexandra.rng import Stream, derive

Change = Callable[[list[str], Stream], str]


def real_texts(folder: Path) -> list[str]:
    """Prose, web text, code and other languages, each cut to a few thousand characters."""
    texts: list[str] = []
    for name, cut in (("c4_demo", 4000), ("brown", 2500), ("python_stdlib", 2500)):
        with gzip.open(folder / f"lm_text/{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
            texts += [json.loads(line)["text"][:cut] for line in lines]
    with gzip.open(folder / "lm_text/wiki_demo.txt.gz", "rt", encoding="utf-8") as file:
        wiki = file.read()
    texts += [wiki[start : start + 1800] for start in range(0, 300_000, 1800)]
    with gzip.open(folder / "languages/udhr_55_languages.jsonl.gz", "rt", encoding="utf-8") as lines:
        texts += [json.loads(line)["text"][:1500] for line in lines]
    return [text for text in texts if text.strip()]


def changed(lines: list[str], stream: Stream) -> str:
    """One of CHANGES, with the numbers of `stream`."""
    return CHANGES[int(stream.below(len(CHANGES), 1)[0])](lines, stream)


def _pick(stream: Stream, bound: int, place: int) -> int:
    return int(stream.below(max(1, bound), 1, start=place)[0])


def _repeat_lines(lines: list[str], stream: Stream) -> str:
    part = lines[: 1 + _pick(stream, len(lines), 1)]
    return "\n".join(lines + part * (1 + _pick(stream, 3, 2)))


def _bullets(lines: list[str], stream: Stream) -> str:
    mark = ("- ", "• ", "* ")[_pick(stream, 3, 1)]
    share = 1 + _pick(stream, 20, 2)
    return "\n".join(line if number % share == share - 1 else mark + line for number, line in enumerate(lines))


def _ellipses(lines: list[str], stream: Stream) -> str:
    every = 1 + _pick(stream, 5, 1)
    return "\n".join(line + ("..." if number % every == 0 else "") for number, line in enumerate(lines))


def _phrase(lines: list[str], stream: Stream) -> str:
    words = " ".join(lines).split()
    size, times = 2 + _pick(stream, 9, 1), _pick(stream, 30, 2)
    return " ".join(words[:300]) + " " + " ".join([" ".join(words[:size])] * times)


def _cut(lines: list[str], stream: Stream) -> str:
    return "\n".join(lines)[: 20 + _pick(stream, 900, 1)]


def _policies(lines: list[str], stream: Stream) -> str:
    extra = (
        "See our privacy policy and more.",
        "Enable JavaScript to go on.",
        "Lorem ipsum dolor sit amet.",
        "if (x) { y }.",
    )
    place = _pick(stream, len(lines), 1)
    return "\n".join([*lines[:place], extra[_pick(stream, len(extra), 2)], *lines[place:]])


def _spread(lines: list[str], stream: Stream) -> str:
    step = 1 + _pick(stream, 6, 1)
    words = " ".join(lines).split()
    return "\n".join(" ".join(words[start : start + step]) for start in range(0, len(words), step))


def _signs(lines: list[str], stream: Stream) -> str:
    sign = ("#", "…", ":) ", " 42 ", "\t", "  ", "e.g. ", "don't ", " -- ", "[12]", "http://a.b/c?d=e ", "U.S. ")[
        _pick(stream, 12, 1)
    ]
    every = 1 + _pick(stream, 12, 2)
    words = " ".join(lines).split(" ")
    return " ".join(word + (sign if number % every == 0 else "") for number, word in enumerate(words))


def _as_it_is(lines: list[str], stream: Stream) -> str:
    return "\n".join(lines)


def _paragraphs(lines: list[str], stream: Stream) -> str:
    return "\n\n".join(lines + lines[: _pick(stream, len(lines), 1)])


CHANGES: tuple[Change, ...] = (
    _as_it_is, _repeat_lines, _bullets, _ellipses, _phrase, _cut, _policies, _spread, _signs, _paragraphs, _as_it_is,
)  # fmt: skip


def corpus(folder: Path, count: int) -> list[str]:
    """`count` documents: the real texts first, then changed pieces of them."""
    texts = real_texts(folder)
    out = texts[: count // 4]
    while len(out) < count:
        stream = derive(9, "corpus", len(out))
        text = texts[_pick(stream, len(texts), 8)]
        start = _pick(stream, max(1, len(text) - 400), 9)
        lines = text[start : start + 300 + _pick(stream, 1200, 10)].split("\n")
        out.append(changed(lines, stream))
    return out
