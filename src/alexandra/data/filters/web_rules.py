"""C4's rules (Raffel et al., 2020) and FineWeb's (Penedo et al., 2024) for web pages.

Decisions, reasons and the lines that C4 keeps equal datatrove's C4QualityFilter, C4ParagraphFilter and
FineWebQualityFilter on English text.
"""

from __future__ import annotations

import heapq
import re

from alexandra.config import Config
from alexandra.data.filters.gopher import TERMINALS, duplicates
from alexandra.data.filters.words import english

_CITATION = re.compile(r"\[\d*]|\[edit]|\[citation needed]")
_ENDS = (".", "?", "!", '"', "'")
_POLICIES = ("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies")
_LINE_ENDS = tuple(TERMINALS)


class C4Quality(Config):
    """-1 switches a number's rule off."""

    remove_citations: bool = True
    need_end_punctuation: bool = True
    min_sentences: int = 5
    min_words_per_line: int = 3
    max_word_length: int = 1000
    drop_lorem_ipsum: bool = True
    drop_javascript_lines: bool = True
    drop_curly_brackets: bool = True
    drop_policy_lines: bool = True

    def apply(self, text: str) -> tuple[str, str]:
        """(the lines that stay, reason to drop the document or "")."""
        sentences, kept = 0, []
        for raw in text.splitlines():
            line = raw.strip()
            words = line.split()
            if self.max_word_length != -1 and any(len(word) > self.max_word_length for word in words):
                continue
            if self.remove_citations and "[" in line:
                line = _CITATION.sub("", line)
            if self.need_end_punctuation and (not line.endswith(_ENDS) or line.endswith("...")):
                continue
            if len(words) < self.min_words_per_line:
                continue
            lowered = line.lower()
            if self.drop_lorem_ipsum and "lorem ipsum" in lowered:
                return "", "lorem_ipsum"
            if self.drop_javascript_lines and "javascript" in lowered:
                continue
            if self.drop_curly_brackets and "{" in line:
                return "", "curly_bracket"
            if self.drop_policy_lines and any(policy in lowered for policy in _POLICIES):
                continue
            if self.min_sentences != -1:
                sentences += english().count_sentences(line)
            kept.append(line)
        if sentences < self.min_sentences:
            return "", "too_few_sentences"
        return "\n".join(kept).strip(), ""


class C4Paragraphs(Config):
    """mC4's rule: at least three lines of 200 characters."""

    min_paragraphs: int = 3
    min_length: int = 200

    def reason(self, text: str) -> str:
        lines = text.split("\n")
        longest = heapq.nlargest(self.min_paragraphs, map(len, lines))
        if len(lines) < self.min_paragraphs or min(longest) < self.min_length:
            return f"< {self.min_paragraphs} paragraphs"
        return ""


class FineWeb(Config):
    """The rules that FineWeb adds to the others."""

    min_punctuated_lines: float = 0.12
    max_short_lines: float = 0.67
    short_line: int = 30
    max_duplicate_characters: float = 0.01
    max_newlines_per_word: float = 0.3

    def reason(self, text: str) -> str:
        lines = [line for line in text.split("\n") if line.strip()]
        if not lines:
            return "empty"
        if sum(line.endswith(_LINE_ENDS) for line in lines) / len(lines) < self.min_punctuated_lines:
            return "line_punct_ratio"
        if sum(len(line) <= self.short_line for line in lines) / len(lines) > self.max_short_lines:
            return "short_line_ratio"
        newlines = text.count("\n")
        if duplicates(lines)[1] / (len(text) - newlines) > self.max_duplicate_characters:
            return "char_dup_ratio"
        if newlines / len(english().words(text)) > self.max_newlines_per_word:
            return "list_ratio"
        return ""
