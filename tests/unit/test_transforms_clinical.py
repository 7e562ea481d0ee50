"""This module tests the walk through clinical messages: whatever the order of the segments, nothing is lost."""

from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.canonical.codec import decode, encode, json_schema
from broker.canonical.model import Event
from broker.errors import StepError
from broker.wire.er7 import Message
from transforms.clinical import Chart, walk
from transforms.map_order import map_order
from transforms.map_pharmacy import map_pharmacy
from transforms.map_problem import map_problem
from transforms.map_result import map_result
from transforms.map_vaccination import map_vaccination

json_schema()  # compiles what reads events, once and outside the time that one example may take

MSH = "MSH|^~\\&|LAB|MERCY|HANDOFF|PRM|20240501103000||{}|MSG1|P|2.5.1"
PID = "PID|1||00123^^^MERCY^MR||Okafor^Ngozi||19620910|F"
MAPPERS = {"ORU": map_result, "OUL": map_result, "OML": map_order, "RDE": map_pharmacy, "VXU": map_vaccination}

NAMES = (
    *("ORC", "OBR", "OBX", "NTE", "SPM", "TQ1", "RXO", "RXE", "RXD", "RXG", "RXA", "RXR", "RXC"),
    *("DG1", "AL1", "IAM", "PRB", "PDA", "ACC", "PV1"),
)
SEGMENTS = st.sampled_from(
    [
        *(
            "ORC|NW|P1^EHR|F1^LAB",
            "ORC|PR|P0",
            "ORC",
            "OBR|1|P1|F1|A^a^L",
            "OBR",
            "OBX",
            "OBX|1|ST|c||?",
            "OBX|1|NM|c||?",
        ),
        *("OBX|1|CWE|c||?^x", "NTE|1||note", "SPM|1|||BLD", "TQ1|1||BID", "DG1|1||I10^x^I10", "AL1|1|DA|PCN", "IAM|1"),
        *(
            "RXA|||20240501||140^Flu^CVX",
            "RXO|PCN",
            "RXE||PCN",
            "RXD|1|PCN",
            "RXR|PO",
            "RXC|A|X",
            "PV1|1|O",
            "ZZZ|1",
            PID,
        ),
        *("PRB|AD||I10", "GOL|AD", "IN1|1|P", "NK1|1|Eze", "PDA||||||Y", "ACC|2024", ""),
    ]
)


def numbered(segments: list[str]) -> list[str]:
    """Give every value a number, so that each can be told from the others."""
    return [text.replace("?", str(number)) for number, text in enumerate(segments)]


def mapped(code: str, segments: list[str], mapper: Callable[..., Event]) -> Event | None:
    raw = "\r".join([MSH.format(f"{code}^X01"), PID, *segments])
    try:
        event: Event = mapper(Message.parse(raw.encode(), "utf-8"))
    except StepError as refused:
        if not refused.location:
            raise
        return None
    assert decode(encode(event)) == event
    return event


def values(event: Event) -> Counter[str]:
    found = list(event.observations)
    found += [each for result in event.results for each in result.observations]
    found += [each for given in event.immunizations for each in given.observations]
    numbers = [each.concept.code if each.concept else each.value for each in found]
    return Counter([number for number in numbers if number and number.isdigit()])


@given(st.sampled_from(sorted(MAPPERS)), st.lists(SEGMENTS, max_size=12).map(numbered))
def test_every_value_is_told_once_whatever_the_order(code: str, segments: list[str]) -> None:
    event = mapped(code, segments, MAPPERS[code])
    if event is not None:
        sent = Counter(
            [str(number) for number, text in enumerate(segments) if text.startswith("OBX|") and "?" not in text]
        )
        assert values(event) == sent


@given(
    st.sampled_from([map_result, map_order, map_pharmacy, map_vaccination, map_problem]),
    st.lists(
        st.tuples(
            st.sampled_from(NAMES),
            st.lists(st.text(st.sampled_from('^&~\\ "<=-:.019AFHPSCXTRENW'), max_size=8), max_size=30),
        ).map(lambda parts: "|".join([parts[0], *parts[1]])),
        max_size=6,
    ),
)
def test_nothing_in_a_field_does_harm(mapper: Callable[..., Event], segments: list[str]) -> None:
    mapped("ORU", segments, mapper)


def test_walk_pads_fields_and_leaves_the_header_out() -> None:
    message = Message.parse(f"{MSH.format('ORU^R01')}\r{PID}\rOBX".encode(), "utf-8")
    names = [fields[0] for fields in walk(message)]
    assert names == ["PID", "OBX"]
    assert all(len(fields) >= 60 for fields in walk(message))


def test_notes_of_what_others_read_are_not_taken_for_those_of_an_order() -> None:
    message = Message.parse(f"{MSH}\rORC|NW\rOBR|1\rDG1|1||x\rNTE|1||of the diagnosis".encode(), "utf-8")
    chart = Chart(message)
    assert chart.groups[0].notes == []
    assert len(chart.groups[0].diagnoses) == 1


@pytest.mark.parametrize("name", ["RXR|PO", "RXC|A|x"])
def test_routes_and_components_of_nothing_are_passed_over(name: str) -> None:
    chart = Chart(Message.parse(f"{MSH}\r{name}\rORC|NW\r{name}".encode(), "utf-8"))
    assert len(chart.groups) == 1
