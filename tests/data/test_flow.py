"""What goes in comes out or is a named loss."""

from __future__ import annotations

from dataclasses import replace

import pytest

from alexandra.data.flow import Broken, Drop, Ledger, Outcome, Record, Skipped, Step, flow
from alexandra.records import Document

RECORDS: list[Record] = [
    Document("one", "1"),
    Broken("f", "line 2", "not JSON: what"),
    Skipped("request"),
    Document("two words", "4"),
    Document("boom", "5"),
]


def no_blanks(document: Document) -> Outcome:
    return Drop("blank") if " " in document.text else document


def upper(document: Document) -> Outcome:
    if document.text == "boom":
        raise ValueError("cannot")
    return replace(document, text=document.text.upper())


def test_every_record_is_kept_or_a_named_loss() -> None:
    ledger, quarantined = Ledger(), []
    kept = list(flow(RECORDS, [Step("upper", upper), Step("no_blanks", no_blanks)], ledger, quarantined.append))
    assert [one.text for one in kept] == ["ONE"]
    assert ledger.losses() == {
        "no_blanks: blank": 1,
        "read: broken: not JSON": 1,
        "read: skipped: request": 1,
        "upper: broken: ValueError": 1,
    }
    assert [(one.step, one.reason) for one in quarantined] == [
        ("read", "not JSON: what"),
        ("upper", "ValueError: cannot"),
    ]
    ledger.check()


def test_an_unnamed_loss_is_found() -> None:
    with pytest.raises(AssertionError, match="5 records in, 1 out, 0 losses"):
        Ledger(records=5, kept=1).check()


def test_ledgers_add_up_and_survive_json() -> None:
    total = Ledger()
    for _ in range(3):
        ledger = Ledger()
        list(flow(RECORDS, [Step("no_blanks", no_blanks)], ledger, lambda broken: None))
        total.add(Ledger.from_dict(ledger.to_dict()))
    total.check()
    assert (total.records, total.kept, total.losses()["no_blanks: blank"]) == (15, 6, 3)
