"""Who works here: MFN M02."""

import pytest

from broker.canonical.model import Concept, Identifier, Patient, Telecom
from broker.errors import StepError
from tests.mapping import mapped, segment

STF = segment(
    "STF",
    f1="77",
    f2="77^^^MERCY^EI",
    f3="Lind^Maja^^^Dr.",
    f4="MD",
    f7="A",
    f10="^WPN^PH^^^217^5550100",
    f18="Surgeon",
)


def test_staff_is_mapped_field_by_field() -> None:
    event = mapped("MFN^M02", "MFI|STF", "MFE|MAD|1", STF, segment("PRA", f3="ST", f5="Cardiology^ABIM", f6="L1^SL^IL"))
    (person,) = event.staff
    assert (event.kind, event.patient) == ("staff.updated", Patient())
    assert person.identifier == Identifier(value="77", system="MERCY", type="EI")
    assert person.identifiers == (person.identifier, Identifier(value="L1", system="IL", type="SL"))
    assert (person.family, person.given, person.prefix, person.role) == ("Lind", "Maja", "Dr.", "Surgeon")
    assert (person.specialty, person.active) == (Concept(text="Cardiology"), True)
    assert person.telecom == (Telecom(value="217 5550100", use="work"),)


def test_each_entry_has_its_own_change() -> None:
    event = mapped("MFN^M02", "MFE|MUP", STF, "MFE|MDL", "STF|78||Berg^Ulf", "MFE|MAD", "STF|79||Holm^Ada")
    assert [(person.family, person.active) for person in event.staff] == [
        ("Lind", True),
        ("Berg", False),
        ("Holm", None),
    ]


@pytest.mark.parametrize("segments", [("MFE|MAD",), ("MFE|MAD", "PRA|1"), ("MFE|MAD", "STF|")])
def test_staff_file_that_names_nobody_is_refused(segments: tuple[str, ...]) -> None:
    with pytest.raises(StepError) as caught:
        mapped("MFN^M02", *segments)
    assert caught.value.location == "STF"
