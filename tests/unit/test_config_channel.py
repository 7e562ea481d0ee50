"""A channel as it is read: plans, defaults, and what workers get; the catalogue and the schema beside it."""

import json
import subprocess
import sys
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any

import orjson
import pytest

from broker.errors import ConfigError
from broker.spec import DestinationSpec, ListenerSpec, StepSpec
from config import catalog
from config.build import build_program
from config.catalog import DESTINATIONS, LISTENERS, STEPS, Parts
from config.channel import load_pure
from config.check import check
from config.findings import report
from config.schema import channel_schema, settings_schema
from config.settings import load
from config.strict_yaml import read_bytes
from tests.project import plan_of

ROOT = Path(__file__).parents[2]
TREE: dict[str, Any] = {
    "channel": "feed",
    "listen": {"mllp": {"endpoint": "127.0.0.1:0"}},
    "steps": [{"filter": "MSH-9.1 == 'ADT'"}, {"canonical": None}],
    "deliver": {
        "a": {"prm": {}, "retry": {"first": "10m"}},
        "b": {
            "after": "a",
            "when": "patient.mobile",
            "sms": {"gateway": "g", "to": "1", "text": "t"},
            "unknown": "retry",
        },
        "c": {"prm": None, "on_dead": "block"},
    },
}


def test_a_tree_becomes_a_plan_with_every_default_filled_in() -> None:
    plan = plan_of(orjson.loads(orjson.dumps(TREE)))
    assert (plan.name, plan.description, plan.labels, plan.order, plan.index) == ("feed", "", {}, None, {})
    assert plan.listen.kind == "mllp"
    assert isinstance(plan.listen.spec, ListenerSpec)
    assert [(step.position, step.kind, step.name) for step in plan.steps] == [
        (1, "filter", "steps.1.filter"),
        (2, "canonical", "steps.2.canonical"),
    ]
    assert all(isinstance(step.spec, StepSpec) for step in plan.steps)
    first, second, third = plan.deliver
    assert isinstance(first.spec, DestinationSpec)
    assert (first.name, first.kind, first.after, first.when) == ("a", "prm", None, None)
    assert (first.retry.attempts, first.retry.first, first.retry.max, first.retry.expire) == (10, 600, 600, 86_400)
    assert (second.after, second.when, second.unknown) == ("a", "patient.mobile", "retry")
    assert (third.on_dead, third.unknown) == ("block", "retry")


def test_a_tree_that_is_wrong_is_refused_with_everything_in_it() -> None:
    with pytest.raises(ConfigError) as caught:
        load_pure({"channel": "feed", "listen": {"mllp": {}}, "steps": [{"filtr": "1"}], "deliver": {"a": {}}})
    assert 'unknown key "filtr"' in str(caught.value)
    assert "deliver.a needs one kind of destination" in str(caught.value)


# --------------------------------------------------------------------------------------------------------- catalogue


@pytest.mark.parametrize(
    ("parts", "base"), [(LISTENERS, ListenerSpec), (STEPS, StepSpec), (DESTINATIONS, DestinationSpec)]
)
def test_every_part_of_the_catalogue_is_a_spec_that_describes_itself(parts: Parts[Any], base: type) -> None:
    assert len(parts) == len(list(parts))
    for name in parts:
        assert issubclass(parts[name], base)
        assert parts[name].__doc__
        for field in parts[name].model_fields.values():
            assert field.description


def install(monkeypatch: pytest.MonkeyPatch, *entries: EntryPoint) -> None:
    monkeypatch.setattr(catalog, "_entry_points", lambda: EntryPoints(entries))


def test_other_packages_can_add_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, EntryPoint("extra", "transforms.filter:FilterSpec", "handoff.step"))
    parts = Parts("step", StepSpec, {})
    assert list(parts) == ["extra"]
    assert parts["extra"].__name__ == "FilterSpec"


def test_a_name_that_is_taken_twice_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, EntryPoint("filter", "other.package:FilterSpec", "handoff.step"))
    parts = Parts("step", StepSpec, {"filter": "transforms.filter:FilterSpec"})
    with pytest.raises(ConfigError, match="two steps are called 'filter'"):
        list(parts)


@pytest.mark.parametrize("place", ["no.such:Spec", "transforms.filter:NoSpec", "transforms.filter:Filter"])
def test_a_part_that_is_none_is_refused(place: str) -> None:
    with pytest.raises(ConfigError, match="the step 'x'"):
        Parts("step", StepSpec, {"x": place})["x"]


# ------------------------------------------------------------------------------------------------------------ schema


def resolve(schema: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in part:
        part = schema["definitions"][part["$ref"].rsplit("/")[-1]]
    return part


def test_every_reference_of_a_schema_leads_somewhere() -> None:
    for schema in (channel_schema(), settings_schema()):
        text = json.dumps(schema)
        for name in {part.split('"')[0] for part in text.split("#/definitions/")[1:]}:
            assert name in schema["definitions"]
        assert "$defs" not in text


def test_the_schema_knows_every_kind_and_its_short_form() -> None:
    schema = channel_schema()
    assert schema["additionalProperties"] is False
    assert set(schema["required"]) == {"channel", "listen"}
    properties = schema["properties"]
    assert set(properties["listen"]["properties"]) == set(LISTENERS)
    steps = properties["steps"]["items"]["properties"]
    assert set(steps) == set(STEPS)
    assert any(form.get("type") == "string" for form in steps["filter"]["anyOf"])
    destination = properties["deliver"]["additionalProperties"]
    assert set(DESTINATIONS) <= set(destination["properties"])
    assert {"after", "when", "retry", "on_dead", "unknown"} <= set(destination["properties"])
    retry = resolve(schema, destination["properties"]["retry"])
    assert retry["properties"]["first"]["anyOf"][0]["pattern"].endswith("(ms|s|m|h|d)$")


def test_the_schema_takes_units_and_endpoints_as_they_are_written() -> None:
    definitions = channel_schema()["definitions"]
    assert definitions["MllpSpec"]["properties"]["endpoint"]["type"] == "string"
    assert definitions["MllpSpec"]["properties"]["idle"]["anyOf"][1] == {"const": 0}


# -------------------------------------------------------------------------------------------------- the sample channel


def test_the_sample_project_has_no_findings() -> None:
    settings = load(ROOT / "handoff.yaml", environment={})
    checked = check(settings)
    assert report(checked.findings) == ""
    assert [plan.name for plan in checked.channels] == ["mercy-adt"]


MESSAGES = {
    "adt_a01": ["patient-store", "ehr"],
    "adt_a03": ["patient-store", "ehr"],
    "adt_a04": ["patient-store", "welcome-text", "ehr"],
    "adt_a04_duplicate": ["patient-store", "welcome-text", "ehr"],
    "adt_a08": ["patient-store", "ehr"],
    "adt_a40": ["patient-store"],
}


@pytest.mark.parametrize("name", MESSAGES)
def test_each_sample_message_goes_where_it_should(name: str) -> None:
    settings = load(ROOT / "handoff.yaml", environment={})
    (plan,) = check(settings).channels
    body = (settings.channels / f"messages/{name}.hl7").read_bytes()
    (state, step, _, reason, deliveries), requests = build_program(plan.tree, settings.channels).process(body, 0.0)
    assert (state, step, reason) == ("processed", None, None)
    assert [plan.deliver[place].name for place, *_ in deliveries] == MESSAGES[name]
    assert len(requests) == len(MESSAGES[name])


@pytest.mark.parametrize(
    ("options", "declared", "ended"),
    [
        ({}, b"UNICODE UTF-8", "read"),
        ({"undecodable": "replace"}, b"UNICODE UTF-8", "steps.1.filter"),
        ({"charset": "8859/1"}, b"UNICODE UTF-8", "deliver.text"),
        ({"charset": "MSH-18", "default_charset": "8859/1"}, b"", "deliver.text"),
        ({"default_charset": "8859/2"}, b"", "steps.1.filter"),
        ({"default_charset": "8859/2"}, b"8859/1", "deliver.text"),
    ],
)
def test_message_is_read_as_its_listener_says(options: dict[str, str], declared: bytes, ended: str) -> None:
    listen = {"mllp": {"endpoint": "127.0.0.1:0", **options}}
    tree = {**TREE, "listen": listen, "steps": [{"filter": "PID-5.1 == 'Pe\xf1a'"}], "deliver": {}}
    tree["deliver"] = {"text": {"sms": {"gateway": "g", "to": "1", "text": "t"}}}
    body = b"MSH|^~\\&|A||||||ADT^A01|1|P|2.5||||||%b\rPID|1||1||Pe\xf1a\r" % declared
    (_, found, *_), _ = build_program(tree, ROOT / "channels").process(body, 0.0)
    assert found == ended  # where it was refused, stopped, or was let through to


@pytest.mark.parametrize("path", sorted((ROOT / "channels/messages").glob("*.hl7")), ids=lambda path: path.stem)
def test_a_sample_message_is_kept_byte_for_byte(path: Path) -> None:
    data = path.read_bytes()
    assert b"\n" not in data
    assert data.endswith(b"\r")
    assert path.stem in MESSAGES


def test_the_first_sample_message_is_of_ordinary_size() -> None:
    data = (ROOT / "channels/messages/adt_a04.hl7").read_bytes()
    assert 1200 <= len(data) <= 1500
    assert len(data.rstrip(b"\r").split(b"\r")) == 12


def test_the_sample_channel_says_where_its_schema_is() -> None:
    data = (ROOT / "channels/mercy-adt.yaml").read_bytes()
    assert data.startswith(b"# yaml-language-server: $schema=../.handoff/channel.schema.json\n")
    assert read_bytes(data, "x").findings == ()


def test_reading_settings_loads_no_engine() -> None:
    code = (
        "import sys; import config.settings, config.channel; "
        "wrong = {'twisted', 'aiohttp', 'sqlalchemy', 'jinja2', 'fhir', 'starlette'}; "
        "print(sorted((wrong | {'broker.canonical', 'broker.notices'}) & set(sys.modules)))"
    )
    assert said_by(code) == "[]"


def test_a_check_loads_neither_http_nor_databases() -> None:
    code = (
        "import sys; from config.settings import load; from config.check import check; check(load(environment={})); "
        "print(sorted({'aiohttp', 'sqlalchemy', 'psycopg', 'alembic', 'fhir', 'starlette'} & set(sys.modules)))"
    )
    assert said_by(code) == "[]"


def test_a_worker_loads_nothing_that_speaks_to_others(tmp_path: Path) -> None:
    settings = load(ROOT / "handoff.yaml", environment={})
    (plan,) = check(settings).channels
    (tmp_path / "tree").write_bytes(orjson.dumps(plan.tree))
    code = (
        "import sys, orjson; from pathlib import Path; import config.process; from config.build import build_program; "
        f"build_program(orjson.loads(Path({str(tmp_path / 'tree')!r}).read_bytes()), Path('channels')); "
        "print(sorted({'twisted', 'OpenSSL', 'aiohttp', 'sqlalchemy', 'psycopg', 'listeners'} & set(sys.modules)))"
    )
    assert said_by(code) == "[]"


def said_by(code: str) -> str:
    """Return what code prints in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout.strip()
