"""Observations that belong to no report."""

from tests.mapping import PID, PV1, mapped


def test_each_observation_has_the_notes_that_follow_it() -> None:
    event = mapped(
        "ADT^A08",
        PID,
        "NTE|1||of the patient",
        PV1,
        "OBX|1|NM|8302-2^Height^LN||170|cm|||||F",
        "NTE|1||standing",
        "NTE|2||without shoes",
        "AL1|1|DA|P^Penicillin",
        "NTE|1||of the allergy",
        "OBX|2|ST|1^Note||text",
    )
    height, note = event.observations
    assert (height.value, height.unit, height.status, height.notes) == (
        "170",
        "cm",
        "final",
        ("standing", "without shoes"),
    )
    assert (note.value, note.notes) == ("text", ())
    assert len(event.allergies) == 1
