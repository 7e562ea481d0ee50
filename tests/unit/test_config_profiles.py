"""This module tests profiles as channels name them: checked like channel files, and built into the step."""

from pathlib import Path

import pytest

from broker.errors import Breach, ConfigError
from config.build import build_program
from config.profiles import load_profile, read_profile
from config.schema import profile_schema
from tests.project import CHANNEL, Project

PROFILE = """\
description: Mercy
segments:
  ZPI: {name: Loyalty, fields: {"1": {name: Number, required: true, length: 8}}}
  EVN: {required: false}
fields:
  PID-8: {required: true, table: SEX}
  PID-3.4: {required: true}
tables:
  SEX: {codes: [F, M]}
  "0004": {add: [X]}
"""
STEP = 'steps:\n  - validate: {hl7: "2.5.1", level: strict, profile: profiles/mercy.yaml}\n'
MESSAGE = (
    "MSH|^~\\&|ADT1|MERCY|||20240501103000||ADT^A04^ADT_A01|1|P|2.5.1\r"
    "PID|1||00123^^^MERCY^MR||Okafor^Ngozi||19620910|F\rPV1|1|X|4EAST\rZPI|1234\r"
)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = Project(tmp_path)
    made.channel(CHANNEL.replace("steps:\n", STEP))
    made.write("channels/profiles/mercy.yaml", PROFILE)
    return made


def test_profile_without_mistakes_has_no_findings_and_belongs_to_the_revision(project: Project) -> None:
    (before,) = project.check().channels
    assert project.told() == []
    project.write("channels/profiles/mercy.yaml", PROFILE.replace("[F, M]", "[F, M, U]"))
    (after,) = project.check().channels
    assert before.revision != after.revision


def test_step_of_a_built_channel_goes_by_its_profile(project: Project) -> None:
    (plan,) = project.check().channels
    program = build_program(plan.tree, project.folder / "channels")
    result, _ = program.process(MESSAGE.encode(), 0.0)
    assert result[0] == "processed", result
    result, _ = program.process(MESSAGE.replace("|F\r", "|Q\r").replace("^MERCY^MR", "").encode(), 0.0)
    state, step, location, reason, _ = result
    assert (state, step, location) == ("failed", "steps.1.validate", "PID-3.4")
    assert reason == (
        "PID-3.4: Assigning authority is required and not valued; "
        "PID-8: Administrative sex has a code that table SEX does not have"
    )


def test_warnings_are_counted_for_later_steps(project: Project) -> None:
    head, tail = CHANNEL[: CHANNEL.index("steps:")], "deliver:\n  store:\n    prm: {}\n"
    project.channel(head + "steps:\n  - validate: {}\n  - filter: validation.warnings == 0\n" + tail)
    assert project.told() == []
    (plan,) = project.check().channels
    program = build_program(plan.tree, project.folder / "channels")
    result, _ = program.process(MESSAGE.encode(), 0.0)
    assert result[:2] == ("filtered", "steps.2.filter")
    assert program.warned == {100: 1}  # EVN is not there; the filter comes after
    assert program.breaches == ()
    program.process(MESSAGE.replace("PID|", "ZID|").encode(), 0.0)
    assert program.warned == {}  # with an error it is a dead letter
    found: tuple[Breach, ...] = program.breaches  # mypy holds it for what it was before
    assert [(each.location, each.condition) for each in found] == [("PID", 100)]


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("required: true, length", "requird: true, length", 'unknown key "requird"'),
        ("length: 8", "length: eight", "needs a whole number"),
        ('"1":', '"zero":', "'zero' is no number of a field (fields are numbered from 1)"),
        ("  EVN:", "  EVX:", "EVX is no segment of HL7 2.5.1"),
        ("EVN: {required: false}", "EVN: {fields: {}}", ""),
        ("EVN: {required: false}", 'EVN: {fields: {"1": {}}}', "only Z segments declare their fields here"),
        ("PID-8:", "PID-55:", "PID-55 does not exist in HL7 2.5.1 (PID has 39 fields)"),
        ("PID-8:", "PID-8(2):", "must name a field or a component of every repetition"),
        ("PID-8:", "PID:", "must name a field"),
        ("PID-8:", "sex:", "is not an HL7 location"),
        ("PID-8:", "ZPI-1:", "fields of a Z segment stand with the segment"),
        ("PID-3.4: {required: true}", "PID-3.4: {repeat: true}", "a component does not repeat"),
        ("table: SEX", "table: GENDER", "there is no table GENDER"),
        ("name: Number,", "type: DATE,", "HL7 2.5.1 has no data type DATE"),
        ('"0004": {add: [X]}', '"0004": {}', "a table needs codes"),
        ('"0004": {add: [X]}', "WARD: {add: [X]}", "HL7 2.5.1 has no table WARD to add to"),
        ("[F, M]", "[1, 2]", "needs text"),
        ("PROFILE", "", ""),
    ],
)
def test_mistake_in_a_profile_is_told_with_its_place_and_the_right_word(
    project: Project, old: str, new: str, says: str
) -> None:
    text = PROFILE.replace(old, new)
    project.write("channels/profiles/mercy.yaml", text)
    told = project.told()
    if not says:
        assert told == []
        return
    line = text[: text.index(new)].count("\n") + 1
    assert told
    assert any(says in each for each in told), told
    assert all(each.startswith(f"mercy.yaml:{line}:") for each in told), told


def test_profile_that_is_missing_or_outside_is_told_in_the_channel(project: Project) -> None:
    project.channel(CHANNEL.replace("steps:\n", STEP.replace("mercy.yaml", "mersy.yaml")))
    (told,) = project.told()
    assert "error[E204]" in told
    assert "did you mean profiles/mercy.yaml?" in told
    assert told.startswith("feed.yaml:7:")
    project.channel(CHANNEL.replace("steps:\n", STEP.replace("profiles/mercy.yaml", "../handoff.yaml")))
    assert ["E204" in each for each in project.told()] == [True]
    (project.folder / "channels/profiles/link.yaml").symlink_to(project.folder / "handoff.yaml")
    project.channel(CHANNEL.replace("steps:\n", STEP.replace("mercy.yaml", "link.yaml")))
    assert ["E204" in each for each in project.told()] == [True]


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('"2.5.1"', '"2.5.2"', "'2.5.2' is no version of HL7 v2"),
        ("level: strict", "level: harsh", "needs one of off, lenient, strict"),
        ("level: strict", "levl: strict", 'unknown key "levl"'),
    ],
)
def test_mistake_in_the_step_is_told(project: Project, old: str, new: str, says: str) -> None:
    project.channel(CHANNEL.replace("steps:\n", STEP.replace(old, new)))
    (told,) = project.told()
    assert told.startswith("feed.yaml:7:")
    assert says in told


def test_profile_that_cannot_be_used_stops_a_worker_with_everything_that_is_wrong() -> None:
    with pytest.raises(ConfigError, match="2 errors in 1 file"):
        load_profile(b"fields: {PID-99: {}}\ntables: {A: {}}\n", "p.yaml")
    profile, findings = read_profile(b"a: b: c", "p.yaml")
    assert profile is None
    assert [found.code for found in findings] == ["E101"]
    assert load_profile(b"", "p.yaml").fields == {}


def test_schema_of_profiles_describes_every_key() -> None:
    schema = profile_schema()
    assert set(schema["properties"]) == {"description", "segments", "fields", "tables"}
    assert {"FieldRule", "SegmentRule", "TableRule"} <= set(schema["definitions"])
