"""This module tests what validation finds in a message: where, with which code, how bad, and without a value of it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.errors import MOST_BREACHES
from broker.wire.er7 import Message, Separators
from broker.wire.location import Location
from transforms.dictionary import VERSIONS, dictionary
from transforms.fields import Look, Place
from transforms.finding import MOST, Finding, Findings, acknowledgment, breaches, reason
from transforms.profile import Profile
from transforms.shapes import Patterns, Shapes
from transforms.validation import Level, Validator, validate

MSH = "MSH|^~\\&|ADT1|MERCY|||20240501103000||ADT^A04^ADT_A01|1|P|2.5.1"
EVN = "EVN||20240501103000"
PID = "PID|1||00123^^^MERCY^MR||Okafor^Ngozi||19620910|F"
PV1 = "PV1|1|O|4EAST^412^B"


def message(*lines: str) -> Message:
    return Message.parse("\r".join(lines).encode())


def found(*lines: str, level: Level = "strict", profile: Profile | None = None, version: str = "") -> list[str]:
    """Return findings in short: severity, code of table 0357, location."""
    told = validate(message(*lines), level, profile, version)
    return [f"{each.severity} {each.condition} {each.location}" for each in told]


def profile(**rules: object) -> Profile:
    return Profile.model_validate(rules)


def test_sender_is_told_the_first_errors_and_how_many_more_there_are() -> None:
    errors = [Finding(f"OBX({number})-3", 101, "error", "…") for number in range(1, 31)]
    told = breaches([Finding("PID-8", 103, "warning", "…"), *errors])
    assert len(told) == MOST_BREACHES
    assert told[0] == ("OBX(1)-3", 101, "…")
    assert told[-1] == ("", 199, "and 11 more errors")
    assert breaches(errors[:MOST_BREACHES])[-1].location == f"OBX({MOST_BREACHES})-3"


@pytest.mark.parametrize(
    ("header", "strict"),
    [
        (MSH.replace("|P|", "|N|"), ["error 202 MSH-11.1"]),
        (MSH.replace("ADT^A04^ADT_A01", "ZZZ^Z99"), []),  # the site's own
        (MSH.replace("ADT^A04^ADT_A01", "XYZ^A04"), ["error 200 MSH-9.1"]),
    ],
)
def test_what_kind_of_message_it_is_has_codes_of_its_own(header: str, strict: list[str]) -> None:
    assert [each for each in found(header, EVN, PID, PV1) if each.startswith("error")] == strict
    assert not [each for each in found(header, EVN, PID, PV1, level="lenient") if each.startswith("error")]


# --- the standard ----------------------------------------------------------------------------------------------------


def test_sound_message_has_no_findings_at_any_level() -> None:
    assert found(MSH, EVN, PID, PV1) == []
    assert found(MSH, EVN, PID, PV1, level="lenient") == []


@pytest.mark.parametrize(
    ("line", "strict", "lenient"),
    [
        ("PID|1||00123||Okafor||NOTADATE", "error 102 PID-7", "warning 102 PID-7"),
        ("PID|1||00123||Okafor||1962-09-10", "error 102 PID-7", "warning 102 PID-7"),
        ("PID|one||00123||Okafor", "error 102 PID-1", "warning 102 PID-1"),
        ("PID|1||||Okafor", "error 101 PID-3", "warning 101 PID-3"),
        ("PID|1||^^^||Okafor", "error 101 PID-3", "warning 101 PID-3"),
        ("PID|1||00123||Okafor|||Q", "warning 103 PID-8", "information 103 PID-8"),
        ("PID|1||00123||Okafor|||F^M", "error 102 PID-8", "warning 102 PID-8"),
        ("PID|1||00123||Okafor|||F~M", "error 198 PID-8", "warning 198 PID-8"),
        ("PID|1||7~8^^^^??||Okafor", "error 103 PID-3(2).5", "warning 103 PID-3(2).5"),
        ("PID|1||7~8^^^A&B&??||Okafor", "error 103 PID-3(2).4.3", "warning 103 PID-3(2).4.3"),
        ("PID|1||7^^^^^^soon||Okafor", "error 102 PID-3.7", "warning 102 PID-3.7"),
        ("PID|1||7^1^2^3^4^5^^^^^11||Okafor", None, None),
        ("PID|1||00123||Okafor" + "|" * 35 + "x", "error 199 PID-40", "warning 199 PID-40"),
        ("PID|1||00123||Okafor||19620910^D^x", "error 102 PID-7", "warning 102 PID-7"),
    ],
)
def test_field_is_found_wrong_at_its_place(line: str, strict: str | None, lenient: str | None) -> None:
    if strict is None or lenient is None:
        assert "error 102 PID-3" in found(MSH, EVN, line, PV1)
        return
    assert found(MSH, EVN, line, PV1) == [strict]
    assert found(MSH, EVN, line, PV1, level="lenient") == [lenient]


def test_explicit_null_is_a_value_of_every_type() -> None:
    assert found(MSH, EVN, 'PID|""||00123||Okafor^""||""|""', PV1) == []


def test_withdrawn_fields_are_found_in_the_version_that_withdrew_them() -> None:
    line = "PID|1||00123^^^M^MR||Okafor||||||||||||||123-45-6789"
    old, new = (MSH.replace("2.5.1", version) for version in ("2.5", "2.7"))
    assert found(old, EVN, line, PV1) == []
    assert found(new, EVN, line, PV1) == ["error 199 PID-19"]
    assert found(MSH, "EVN|A04|20240501", PID, PV1, version="2.8") == ["error 199 EVN-1"]


@pytest.mark.parametrize(
    ("lines", "strict", "lenient"),
    [
        ((MSH, PID, PV1), ["error 100 EVN"], ["warning 100 EVN"]),
        ((MSH, EVN, PV1), ["error 100 PID"], ["error 100 PID"]),
        ((MSH, EVN, PID, PID, PV1), ["error 198 PID(2)"], ["warning 198 PID(2)"]),
        ((MSH, PID, EVN, PV1), ["error 100 EVN"], ["warning 100 EVN"]),
        ((MSH, EVN, PID, PV1, "SCH|1"), ["error 100 SCH"], ["warning 100 SCH"]),
        ((MSH, EVN, PID, PV1, "ABC|1"), ["error 100 ABC"], ["warning 100 ABC"]),
        # a wrapped line belongs to the last field of the segment before it
        ((MSH, EVN, PID, "more"), ["warning 103 PID-8", "error 100 PV1"], ["information 103 PID-8", "warning 100 PV1"]),
        ((MSH, EVN, PID, PV1, "ZPI|whatever"), [], []),
    ],
)
def test_segments_are_found_wrong(lines: tuple[str, ...], strict: list[str], lenient: list[str]) -> None:
    told = found(*lines)
    assert [line for line in told if " SCH-" not in line] == strict
    told = found(*lines, level="lenient")
    assert [line for line in told if " SCH-" not in line] == lenient


@pytest.mark.parametrize(
    ("kind", "value", "wrong"),
    [
        ("NM", "12.5", []),
        ("NM", ">12", ["error 102 OBX-5"]),
        ("TX", "any text~more", []),
        ("CE", "a^b^c^d^e^f", []),
        ("CWE", "a^b^c^d^e^f^1^2^the original", []),
        ("TS", "2024", []),
        ("DT", "yesterday", ["error 102 OBX-5"]),
        ("", "5", ["error 101 OBX-2"]),
        ("XX", "5", ["error 103 OBX-2"]),
        ("ST", "", []),
    ],
)
def test_value_of_an_observation_is_of_the_type_that_is_named(kind: str, value: str, wrong: list[str]) -> None:
    msh = MSH.replace("ADT^A04^ADT_A01", "ORU^R01^ORU_R01")
    assert found(msh, PID, "OBR|1|||718-7^Hb^LN", f"OBX|1|{kind}|718-7^Hb^LN||{value}||||||F") == wrong


@pytest.mark.parametrize(
    ("version", "strict", "lenient"),
    [
        ("2.9", ["information 203 MSH-12"], ["information 203 MSH-12"]),
        ("2.7.1", ["information 203 MSH-12"], ["information 203 MSH-12"]),
        ("2.z", ["error 203 MSH-12"], ["warning 203 MSH-12"]),
        ("", ["error 203 MSH-12", "error 101 MSH-12"], ["warning 203 MSH-12", "warning 101 MSH-12"]),
    ],
)
def test_version_without_tables_is_checked_as_another_one_and_that_is_told(
    version: str, strict: list[str], lenient: list[str]
) -> None:
    msh = MSH.replace("2.5.1", version)
    of_version = [line for line in found(msh, EVN, PID, PV1) if "MSH-12" in line]
    assert of_version == strict
    assert [line for line in found(msh, EVN, PID, PV1, level="lenient") if "MSH-12" in line] == lenient
    assert not [line for line in found(msh, EVN, PID, PV1, version="2.5.1") if "203" in line]


@pytest.mark.parametrize(
    ("type_", "strict"),
    [
        ("ADT^A99", ["error 201 MSH-9.2"]),
        ("AAA^A01", ["error 200 MSH-9.1"]),
        ("ADT^A04^ADT_A04", ["error 103 MSH-9.3"]),
        ("ADT^Z01", []),
        ("ZZZ^Z01", []),
    ],
)
def test_message_type_is_looked_up(type_: str, strict: list[str]) -> None:
    told = found(MSH.replace("ADT^A04^ADT_A01", type_), EVN, PID, PV1)
    assert [line for line in told if "MSH-9" in line] == strict


def test_code_of_a_coding_system_of_its_own_is_not_looked_up_in_hl7s_table() -> None:
    line = PID + "||||||||"
    assert found(MSH, EVN, line + "M^Married^HL70002", PV1) == []
    assert found(MSH, EVN, line + "99^Married^L", PV1) == []
    assert found(MSH, EVN, line + "99^Married^HL70002", PV1) == ["warning 103 PID-16.1"]
    assert found(MSH, EVN, line + "99^Married", PV1) == ["warning 103 PID-16.1"]


def test_level_off_finds_nothing() -> None:
    assert found("MSH|^~\\&|", "rubbish", level="off") == []


def test_other_separators_are_those_of_the_message() -> None:
    lines = [line.translate(str.maketrans("|^~&", "#*!?")) for line in (MSH, EVN, PID, PV1)]
    assert found(*lines) == []
    assert found(*lines[:2], lines[2].replace("19620910", "soon"), lines[3]) == ["error 102 PID-7"]


def test_message_without_most_separators_is_checked() -> None:
    assert "error 101 PID-3" in found("MSH|^|A|B|||20240501||ADT|1|P|2.5.1", "PID|1")


# --- bounds ----------------------------------------------------------------------------------------------------------


def test_findings_are_bounded_and_the_rest_is_counted() -> None:
    told = validate(message(MSH, EVN, PID, PV1, *["AL1|x|DA|p"] * 500), "strict")
    assert len(told) == MOST + 1
    assert told[-1].text == f"and {500 - MOST} more of severity error"
    assert len(reason(told)) < 2200
    assert "more errors" in reason(told)


def test_errors_are_kept_however_many_warnings_come_first() -> None:
    told = validate(message(MSH, EVN, *["AL1|x|DA|p"] * 500, PV1), "lenient")
    assert [each.location for each in told if each.severity == "error"] == ["PID"]


def test_no_separators_that_a_sender_invents_fill_the_memory() -> None:
    validator = Validator("lenient")
    for mark in "!$%*+,:;<=>?@{}":
        validator(message(MSH.replace("^", mark), EVN, PID.replace("^", mark), PV1.replace("^", mark)))
    assert len(validator._plans) <= 9


# --- words -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", ["lenient", "strict"])
def test_no_value_of_the_message_is_told(level: Level) -> None:
    canary = "Zyxwvut"
    lines = (
        MSH,
        f"EVN|{canary}|{canary}^{canary}",
        f"PID|{canary}|{canary}&{canary}|{canary}^{canary}^{canary}^^{canary}||{canary}~^^^^^^{canary}||{canary}|{canary}",
        f"{canary}|{canary}",
        canary,
        f"PV1|{canary}|{canary}|{canary}~{canary}",
        f"OBX|{canary}|{canary}|{canary}||{canary}",
        f"OBX|1|NM|x||{canary}",
    )
    told = validate(message(*lines), level)
    assert told
    assert canary.lower() not in " ".join(map(str, told)).lower()


def test_finding_says_what_where_and_what_was_expected() -> None:
    (told,) = validate(message(MSH, EVN, PID.replace("19620910", "soon"), PV1))
    assert str(told) == (
        "PID-7: Date time of birth is no date and time; expected YYYY[MM[DD[HH[MM[SS[.S[S[S[S]]]]]]]]][+/-ZZZZ]"
    )
    assert told.as_json() == {
        "location": "PID-7", "condition": 102, "severity": "warning", "text": str(told).partition(": ")[2]
    }  # fmt: skip


def test_locations_can_be_read_again() -> None:
    told = validate(message(MSH, EVN, "PID|x||7~8^^^A&B&??||Okafor|||F~M", PV1, "AL1|x", "AL1|y"), "strict")
    assert told
    for each in told:
        assert str(Location.parse(each.location)) == each.location


@pytest.mark.parametrize(("conditions", "code"), [((), "AA"), ((102, 101), "AE"), ((102, 201), "AR"), ((203,), "AR")])
def test_acknowledgment_follows_from_the_errors(conditions: tuple[int, ...], code: str) -> None:
    told = [Finding("", condition, "error", "") for condition in conditions]
    assert acknowledgment([*told, Finding("", 203, "warning", "")]) == code


# --- profiles --------------------------------------------------------------------------------------------------------


def test_profile_asks_for_fields_and_components() -> None:
    rules = profile(fields={"PID-8": {"required": True}, "PID-3.4": {"required": True}, "PID-5": {"repeat": False}})
    assert found(MSH, EVN, PID, PV1, profile=rules, level="lenient") == []
    line = "PID|1||00123||Okafor~Nobody"
    assert found(MSH, EVN, line, PV1, profile=rules, level="lenient") == [
        "error 101 PID-3.4", "error 198 PID-5", "error 101 PID-8"
    ]  # fmt: skip


def test_profile_relaxes_what_the_standard_asks_for() -> None:
    rules = profile(
        fields={"PID-3": {"required": False}, "PID-8": {"repeat": True}}, segments={"EVN": {"required": False}}
    )
    assert found(MSH, "PID|1||||Okafor|||F~M", PV1, profile=rules) == []


def test_profile_requires_a_segment_and_lets_one_repeat() -> None:
    rules = profile(segments={"NK1": {"required": True}, "PID": {"repeat": True}})
    assert found(MSH, EVN, PID, PID, PV1, profile=rules, level="lenient") == ["error 100 NK1"]
    rules = profile(segments={"NK1": {"repeat": False}})
    nk1 = "NK1|1|Okafor"
    assert found(MSH, EVN, PID, nk1, nk1, PV1, profile=rules, level="lenient") == ["error 198 NK1(2)"]


def test_profile_declares_a_z_segment() -> None:
    fields = {"1": {"name": "Loyalty number", "required": True, "length": 4}, "3": {"type": "DT", "repeat": True}}
    rules = profile(segments={"ZPI": {"name": "Loyalty", "fields": fields}})
    assert found(MSH, EVN, PID, PV1, "ZPI|1234||2024~2025", profile=rules) == []
    assert found(MSH, EVN, PID, PV1, "ZPI||x|2024~soon|y", profile=rules) == [
        "error 199 ZPI-2", "error 102 ZPI-3(2)", "error 101 ZPI-1", "error 199 ZPI-4"
    ]  # fmt: skip
    assert found(MSH, EVN, PID, PV1, "ZPI|12345", profile=rules, level="lenient") == ["error 104 ZPI-1"]


def test_profile_extends_replaces_and_adds_tables() -> None:
    rules = profile(
        tables={"0001": {"add": ["X"]}, "0004": {"codes": ["O"]}, "WARD": {"codes": ["4EAST"]}},
        fields={"PV1-3.1": {"table": "WARD"}},
    )
    assert found(MSH, EVN, PID.replace("|F", "|X"), PV1, profile=rules) == []
    assert found(MSH, EVN, PID.replace("|F", "|Q"), "PV1|1|I|5WEST^1", profile=rules, level="lenient") == [
        "error 103 PID-8", "error 103 PV1-2", "error 103 PV1-3.1"
    ]  # fmt: skip


def test_profile_bounds_lengths_after_unescaping() -> None:
    rules = profile(fields={"PID-5.1": {"length": 6}, "PID-8": {"length": 1}})
    assert found(MSH, EVN, PID, PV1, profile=rules) == []
    assert found(MSH, EVN, PID.replace("Okafor", "O\\T\\Hara"), PV1, profile=rules) == []
    assert found(MSH, EVN, PID.replace("Okafor", "Okafor7"), PV1, profile=rules) == ["error 104 PID-5.1"]


def test_profile_brings_a_withdrawn_field_back() -> None:
    line = "PID|1||00123^^^M^MR||Okafor||||||||||||||123"
    rules = profile(fields={"PID-19": {"type": "NM"}})
    assert found(MSH, EVN, line, PV1, version="2.8", profile=rules) == []
    assert found(MSH, EVN, line + "x", PV1, version="2.8", profile=rules) == ["error 102 PID-19"]


# --- patterns against the long way -----------------------------------------------------------------------------------

SEPARATORS = Separators()
PARTS = st.sampled_from(
    [
        "",
        "",
        "1",
        "12",
        "A",
        "MR",
        "L",
        "PRN",
        "20240229",
        "20230229",
        "1030",
        "x y",
        '""',
        "\\T\\",
        "HL70005",
        "Z",
        "-1.5",
    ]
)
FIELD = st.lists(
    st.lists(st.lists(PARTS, min_size=1, max_size=3).map("&".join), min_size=1, max_size=9).map("^".join),
    min_size=1,
    max_size=3,
).map("~".join)
FIELDS = [
    (version, segment, number)
    for version in ("2.3.1", "2.5.1", "2.7")
    for segment in ("PID", "PV1", "MSH", "OBR", "DG1", "IN1", "RXA", "AL1")
    for number in range(3, len(dictionary(version).fields(segment) or ()))
]


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(FIELDS), FIELD)
def test_what_a_pattern_takes_for_certain_has_nothing_wrong(where: tuple[str, str, int], text: str) -> None:
    version, segment, number = where
    shapes = Shapes(dictionary(version), None).of_segment(segment) or ()
    shape = shapes[number - 1] if number <= len(shapes) else None
    pattern = Patterns(SEPARATORS).of_field(shape) if shape is not None else None
    if pattern is not None and pattern.fullmatch(text):
        findings = Findings(strict=True)
        Look(SEPARATORS, "utf-8", findings).field(Place(segment, 1, number), text, shape)
        assert findings.told() == []


@pytest.mark.parametrize("version", VERSIONS)
def test_every_field_of_every_segment_compiles_and_takes_what_is_right(version: str) -> None:
    """A pattern that took nothing would send every message the long way."""
    shapes, patterns = Shapes(dictionary(version), None), Patterns(SEPARATORS)
    for name in dictionary(version).segments[::12]:
        for shape in shapes.of_segment(name) or ():
            pattern = patterns.of_field(shape) if shape is not None and shape.most else None
            if pattern is not None and shape is not None and not shape.parts and shape.codes is None:
                right = {"DT": "20240501", "DTM": "20240501", "TM": "1030", "NM": "1", "SI": "1", "SNM": "1"}
                assert pattern.fullmatch(right.get(shape.datatype, "text")), (name, shape.name)
