"""The seed's plain rules: enough characters and words, not the same word over and over, mostly letters."""

from __future__ import annotations

from alexandra.config import Config


class Ratios(Config):
    """Code is judged by length alone; its words and signs follow other laws."""

    min_characters: int = 50
    max_characters: int = 10_000_000
    min_words: int = 10
    min_unique_words: float = 0.5
    unique_within: int = 200
    min_alphabetic: float = 0.5

    def reason(self, text: str, code: bool = False) -> str:
        """The share of distinct words falls with length, so it is taken over `unique_within` words at a time."""
        if len(text) < self.min_characters:
            return "too_short"
        if len(text) > self.max_characters:
            return "too_long"
        if code:
            return ""
        words = text.lower().split()
        if _spaced(text) and len(words) < self.min_words:
            return "too_few_words"
        if words and _spaced(text):
            size = self.unique_within
            blocks = [words[start : start + size] for start in range(0, len(words), size)]
            shares = [len(set(block)) / len(block) for block in blocks if len(block) > size // 2 or len(blocks) == 1]
            if sum(shares) / len(shares) < self.min_unique_words:
                return "repeated_words"
        alphabetic = sum(map(str.isalpha, text)) / max(1, len(text) - sum(map(text.count, " \n\t")))
        return "" if alphabetic >= self.min_alphabetic else "too_few_letters"


def _spaced(text: str) -> bool:
    """Whether the script puts blanks between words; Chinese, Japanese, Thai and their like do not."""
    beginning = text[:2000]
    unspaced = sum(
        "\u0e00" <= one <= "\u0eff" or "\u1000" <= one <= "\u109f" or "\u3040" <= one <= "\u9fff" for one in beginning
    )
    return unspaced * 4 < len(beginning)
