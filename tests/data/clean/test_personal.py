"""Personal data is found where people marked it, of the right type, and nowhere else."""

from __future__ import annotations

import gzip
import json
import time
from pathlib import Path

import pytest

from alexandra.data.clean.personal import KINDS, find_personal, is_card, is_iban, replace_personal

TYPES = {
    "CREDIT_CARD": "CARD",
    "PHONE_NUMBER": "PHONE",
    "EMAIL_ADDRESS": "EMAIL",
    "IBAN_CODE": "IBAN",
    "US_SSN": "SSN",
    "IP_ADDRESS": "IP",
}


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("write to Ann.Lee+x@mail.example.co.uk.", "write to [EMAIL]."),
        ("card 4111 1111 1111 1111 now", "card [CARD] now"),
        ("card 4111 1111 1111 1112 now", "card 4111 1111 1111 1112 now"),
        ("IBAN DE89 3704 0044 0532 0130 00, thanks", "IBAN [IBAN], thanks"),
        ("my ssn is 123-45-6789", "my ssn is [SSN]"),
        ("from 192.168.17.4 and 2001:db8::ff00:42:8329", "from [IP] and [IP]"),
        ("call +44 20 7946 0958 or (212) 555-0187", "call [PHONE] or [PHONE]"),
        (
            "version 1.2.3.4.5 in 1914-1918, 12.05.1998, 3,141,592",
            "version 1.2.3.4.5 in 1914-1918, 12.05.1998, 3,141,592",
        ),
        ("the population was 1 234 567 in 2005 2006", "the population was 1 234 567 in 2005 2006"),
    ],
)
def test_placeholders_are_typed(text: str, clean: str) -> None:
    assert replace_personal(text)[0] == clean


def test_names_only_on_request() -> None:
    assert replace_personal("Ask Mr. John Smith.")[0] == "Ask Mr. John Smith."
    assert replace_personal("Ask Mr. John Smith.", KINDS)[0] == "Ask Mr. [NAME]."


def test_check_digits() -> None:
    assert is_iban("GB82WEST12345698765432") and not is_iban("GB82WEST12345698765433")
    assert is_card("378282246310005") and not is_card("378282246310006")


def test_f1_on_marked_sentences(real_data: Path) -> None:
    with gzip.open(real_data / "pii/synth_dataset_v2.json.gz") as file:
        rows = json.load(file)
    right = found = marked = 0
    for row in rows:
        truth = {
            (span["start_position"], span["end_position"], TYPES[span["entity_type"]])
            for span in row["spans"]
            if span["entity_type"] in TYPES
        }
        answer = {(span.start, span.end, span.kind) for span in find_personal(row["full_text"])}
        right, found, marked = right + len(truth & answer), found + len(answer), marked + len(truth)
    assert marked > 300 and 2 * right / (found + marked) >= 0.98


@pytest.mark.parametrize(
    "piece", ["a", "a@", "1 ", "1-", "(", "a.", "@", "GB12 ", ":", "1:", "+1", "12 34 ", "a.b@c", "0", "Mr "]
)
def test_bait_costs_no_more_than_text(piece: str) -> None:
    text = piece * (200_000 // len(piece))
    began = time.process_time()
    find_personal(text, KINDS)
    assert time.process_time() - began < 3.0  # 0.15 s at most when linear; minutes when quadratic
