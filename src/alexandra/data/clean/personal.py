"""Personal data: where it stands, of which type, and the text with typed placeholders in its place.

Types: EMAIL, PHONE, SSN (United States), IBAN (checked by its digits), CARD (by Luhn), IP (4 and 6), and NAME on
request (titles and introductions only; no list of names). Candidates come from patterns of bounded length, so hostile
text costs no more than plain text; a check decides. A number that could be anything is a phone only where the words
beside it say so.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass

KINDS = ("EMAIL", "IBAN", "CARD", "SSN", "IP", "PHONE", "NAME")
DEFAULT_KINDS = KINDS[:-1]
CONTEXT_CHARS = 32
MOST_WORDS_AFTER = 4


@dataclass(frozen=True, slots=True)
class Span:
    """text[start:end] is personal data of type `kind`."""

    start: int
    end: int
    kind: str


_LOCAL = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.\u00a1-\u024f-]{1,64}\Z")
_DOMAIN = re.compile(
    r"(?:[A-Za-z0-9\u00a1-\uffff](?:[A-Za-z0-9\u00a1-\uffff-]{0,61}[A-Za-z0-9\u00a1-\uffff])?\.){1,8}[A-Za-z]{2,24}(?![A-Za-z0-9])"
)
_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}[0-9]{2}(?: ?[A-Za-z0-9]){11,30}(?![A-Za-z0-9])")
_IP6 = re.compile(r"(?<![0-9A-Za-z:.])(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}(?![0-9A-Za-z:])")
_IP4 = re.compile(r"(?<![0-9.])[0-9]{1,3}(?:\.[0-9]{1,3}){3}(?![0-9]|\.[0-9])")
_NUMBER = re.compile(
    r"(?<![\w./#-])(?<![0-9],)(?:\+|\(\+?)?[0-9](?:[0-9]|[ .()/-]{1,2}(?=[0-9(])|[)](?=[ 0-9.-])){5,28}"
    r"(?:\s?(?:x|ext\.?)\s?[0-9]{1,5})?"
    r"(?![0-9A-Za-z_]|[.,][0-9]|%)"
)
_SSN = re.compile(r"[0-9]{3}([- ])[0-9]{2}\1[0-9]{4}")
_PHONE_WORDS = re.compile(
    r"(?:\b(?:phones?|tel|telephone|mobile|cell|fax|call|calls?|dial|desk|office|home|work|sms|text|whatsapp|contact|reach"
    r"|ring|hotline|number|registered|messages? to|answering at|telefon|tél|handy|teléfono|telefono|numéro|tlf|ph)\b"
    r"[^\d\n]{0,20}|☎[^\d\n]{0,3})"
    r"\n?\s?\Z",
    re.IGNORECASE,
)
_PHONE_AFTER = re.compile(r"[ -]{1,3}(?:office|fax|mobile|home|desk|work|cell)\b", re.IGNORECASE)
_OTHER_NUMBER = re.compile(
    r"(?:card|account|order|invoice|licen[cs]e|isbn|issn|serial|credit|cc|bank|patent|version|id"
    r"|case|ticket)\b[^\d\n]{0,25}\Z",
    re.IGNORECASE,
)
# Shapes that speak for themselves: North America with an area code, international, a trunk zero and nine digits.
_CLEAR_PHONE = re.compile(
    r"(?:\+|00)[1-9][0-9 ().-]{6,20}(?:\s?(?:x|ext\.?)\s?[0-9]{1,5})?"
    r"|(?:001[-. ]|1[-. ])?\(?[2-9][0-9]{2}\)?[-. ]{0,2}[2-9][0-9]{2}[-. ][0-9]{4}(?:\s?(?:x|ext\.?)\s?[0-9]{1,5})?"
    r"|\(0?[0-9]{2,4}\)[ -]{0,2}[0-9]{3,4}[- ][0-9]{3,4}"
    r"|0[1-9][0-9]{1,3}[ -][0-9]{3,4}[ -][0-9]{3,4}|0[1-9](?:[ .-][0-9]{2}){4}"
)
_PAIR = re.compile(r"[0-9]{2}")
_DATE = re.compile(
    r"(?:19|20)[0-9]{2}[-./ ][0-9]{1,2}[-./ ][0-9]{1,2}.{0,12}|[0-9]{1,2}[-./ ][0-9]{1,2}[-./ ](?:19|20)?[0-9]{2}"
    r"|(?:1[5-9]|20)[0-9]{2} ?[-/ ] ?(?:1[5-9]|20)[0-9]{2}"
)
_NAME = re.compile(
    r"(?:\b(?:Mr|Mrs|Ms|Miss|Dr|Prof|Sir|Madam|Herr|Frau|Monsieur|Madame|Señor|Señora)\b\.?"
    r"|\b[Mm]y name is|\bName:)\s{1,3}"
    r"((?:[A-ZÀ-Þ][\w'’-]{1,30})(?: (?:[A-ZÀ-Þ]\.|[A-ZÀ-Þ][\w'’-]{1,30})){0,3})"
)
_CARD_STARTS = ("4", "5", "6", "34", "35", "36", "37", "38", "39", "30", "1800", "2131")


def find_personal(text: str, kinds: tuple[str, ...] = DEFAULT_KINDS) -> list[Span]:
    """The spans of the types in `kinds`, in order, without overlaps; the first type in KINDS wins."""
    taken: list[Span] = []
    numbers = list(_NUMBER.finditer(text))
    for kind in KINDS:
        if kind in kinds:
            found = _IN_NUMBERS[kind](text, numbers) if kind in _IN_NUMBERS else _FINDERS[kind](text)
            taken += [span for span in found if not _overlaps(span, taken)] if taken else found
            taken.sort(key=lambda span: span.start)
    return taken


def replace_personal(text: str, kinds: tuple[str, ...] = DEFAULT_KINDS) -> tuple[str, list[Span]]:
    """The text with "[EMAIL]" and the like in place of personal data, and the spans in the old text."""
    spans = find_personal(text, kinds)
    if not spans:
        return text, spans
    out, last = [], 0
    for span in spans:
        out += [text[last : span.start], f"[{span.kind}]"]
        last = span.end
    return "".join(out) + text[last:], spans


def _overlaps(span: Span, taken: list[Span]) -> bool:
    """`taken` is sorted and free of overlaps."""
    low, high = 0, len(taken)
    while low < high:
        middle = (low + high) // 2
        if taken[middle].end <= span.start:
            low = middle + 1
        else:
            high = middle
    return low < len(taken) and taken[low].start < span.end


def _emails(text: str) -> list[Span]:
    out: list[Span] = []
    at = text.find("@")
    last = 0
    while at >= 0:
        domain = _DOMAIN.match(text, at + 1)
        local = _LOCAL.search(text, max(last, at - 64), at) if domain is not None else None
        if local is not None and domain is not None:
            start = local.start() + len(local.group()) - len(local.group().lstrip(".'`*/=?^{|}!#$%&~+-"))
            if start < at:
                out.append(Span(start, domain.end(), "EMAIL"))
                last = domain.end()
                at = text.find("@", last)
                continue
        at = text.find("@", at + 1)
    return out


def _checked(pattern: re.Pattern[str], kind: str, test: Callable[[str], bool]) -> Callable[[str], list[Span]]:
    def found(text: str) -> list[Span]:
        return [Span(*match.span(), kind) for match in pattern.finditer(text) if test(match.group())]

    return found


def is_iban(value: str) -> bool:
    """ISO 13616: the number made of the rearranged letters and digits is 1 modulo 97."""
    packed = value.replace(" ", "").upper()
    if not 15 <= len(packed) <= 34 or not packed.isascii():
        return False
    return int("".join(str(int(character, 36)) for character in packed[4:] + packed[:4])) % 97 == 1


def _ibans(text: str) -> list[Span]:
    out = []
    for match in _IBAN.finditer(text):
        value, end = match.group(), match.end()
        for _ in range(MOST_WORDS_AFTER):  # words after the number were taken for a part of it
            if is_iban(value) or " " not in value:
                break
            value = value[: value.rstrip().rfind(" ")]
        if value and is_iban(value):
            out.append(Span(match.start(), match.start() + len(value), "IBAN"))
        elif end - match.start() <= 34 and re.search(
            r"(?i)\biban\b[^.\n]{0,20}\Z", text[max(0, match.start() - 30) : match.start()]
        ):
            out.append(Span(match.start(), end, "IBAN"))
    return out


def is_card(digits: str) -> bool:
    """12 to 19 digits, the beginning of an issuer, Luhn's sum."""
    if not 12 <= len(digits) <= 19 or not (digits.isascii() and digits.isdigit()):
        return False
    if not digits.startswith(_CARD_STARTS) and not 2221 <= int(digits[:4]) <= 2720:
        return False
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) << (place & 1)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def _cards(text: str, numbers: list[re.Match[str]]) -> list[Span]:
    return [Span(*match.span(), "CARD") for match in numbers if is_card(re.sub(r"[ -]", "", match.group()))]


def is_ssn(value: str) -> bool:
    """Three, two and four digits in ranges that are given out."""
    if not _SSN.fullmatch(value):
        return False
    return value[:3] not in ("000", "666") and value[4:6] != "00" and value[7:] != "0000"


def _ssns(text: str, numbers: list[re.Match[str]]) -> list[Span]:
    return [Span(*match.span(), "SSN") for match in numbers if is_ssn(match.group())]


def is_ip(value: str) -> bool:
    try:
        address = ipaddress.ip_address(value)
    except ValueError:
        return False
    return not (address.is_loopback or address.is_unspecified or str(value) in ("255.255.255.255", "0.0.0.0"))


def _ips(text: str) -> list[Span]:
    four = _checked(_IP4, "IP", is_ip)(text)
    six = _checked(_IP6, "IP", is_ip)(text) if "::" in text or text.count(":") >= 7 else []
    return sorted(four + [span for span in six if not _overlaps(span, four)], key=lambda span: span.start)


def _phones(text: str, numbers: list[re.Match[str]]) -> list[Span]:
    return [Span(*match.span(), "PHONE") for match in numbers if _is_phone(text, match)]


def _is_phone(text: str, match: re.Match[str]) -> bool:
    value, start, end = match.group(), match.start(), match.end()
    digits = sum(map(str.isdigit, re.split(r"x|ext", value)[0]))
    if not 7 <= digits <= 15 or value.count("(") != value.count(")"):
        return False
    if _PAIR.search(value) is None:  # digits one by one are a list
        return False
    before = text[max(0, start - CONTEXT_CHARS) : start]
    if _PHONE_WORDS.search(before) or _PHONE_AFTER.match(text, end):
        return not _OTHER_NUMBER.search(before)
    if _DATE.fullmatch(value) or _OTHER_NUMBER.search(before):
        return False
    return _CLEAR_PHONE.fullmatch(value) is not None and not re.fullmatch(r"[0-9]{1,3}(?: [0-9]{3}){2,}", value)


def _names(text: str) -> list[Span]:
    return [Span(*match.span(1), "NAME") for match in _NAME.finditer(text)]


_FINDERS: dict[str, Callable[[str], list[Span]]] = {"EMAIL": _emails, "IBAN": _ibans, "IP": _ips, "NAME": _names}
_IN_NUMBERS: dict[str, Callable[[str, list[re.Match[str]]], list[Span]]] = {
    "CARD": _cards,
    "SSN": _ssns,
    "PHONE": _phones,
}
