"""What the patient store remembers between batches is what it would read, on both databases."""

import contextlib

import pytest

from broker.canonical.model import Location
from broker.sql import connect
from dispatch.patients import known as knowing
from dispatch.patients.known import Known
from dispatch.patients.queries import find
from tests.prm_events import apply, assert_known_as_read, merged, told, visit


def test_what_another_connection_wrote_is_not_remembered_as_it_was(laid_urls: str) -> None:
    with contextlib.closing(connect(laid_urls)) as first, contextlib.closing(connect(laid_urls)) as second:
        known = Known(first), Known(second)
        stay = visit("V1", status="planned")
        for number, store in enumerate((first, second, first, first, second), 1):
            moved = visit("V1", location=Location(room=str(number % 2)))
            apply(store, told(number, "A", encounter=stay if number == 1 else moved), known=known[store is second])
            assert_known_as_read(store, known[store is second])
        apply(second, merged(6, "B", "A"), known=known[1])
        apply(first, told(7, "A", family="Okafor", encounter=visit("V2")), known=known[0])
        assert [(one.mrn.value, one.family) for one in find(second, "A")] == [("B", "Okafor")]
        assert [event.changed for event in find(second, "B")[0].timeline[:3]] == [
            ("family", "identifiers", "encounter"),
            ("identifiers",),
            ("encounter.location",),
        ]


def test_only_so_many_patients_are_remembered(laid_urls: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = connect(laid_urls)
    known = Known(store)
    monkeypatch.setattr(knowing, "MOST", 2)
    for batch in (["A", "B"], ["B", "C"]):
        for number, who in enumerate(batch):
            apply(store, told(ord(who) * 10 + number, who), known=known)
        with store.transaction():
            held = known.take()
        known.keep(held)
        assert sorted(key[0] for key in held.patients) == (batch if store.dialect == "sqlite" and "A" in batch else [])
    store.close()
