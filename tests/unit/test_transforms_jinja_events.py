"""This module tests how a channel writes events: filters, resources by name, and what a check says about mistakes."""

from pathlib import Path
from typing import Any

import orjson
import pytest
from pydantic import ValidationError

from broker.canonical.model import Encounter, Event, Identifier, Observation, Patient, Source
from broker.delivery import Delivered
from broker.errors import StepError
from broker.message import Document
from broker.wire.er7 import Message
from dispatch.fhir import FhirSpec
from dispatch.fhir_bundle import bundle_outcome
from dispatch.http import Answer
from transforms.expression import ExpressionError, compile_expression
from transforms.kit import Kit
from transforms.map_message import map_message
from transforms.template import compile_template

RECORD = Identifier(value="7", system="MERCY", type="MR")


def document(**parts: Any) -> Document:
    values: dict[str, Any] = {"kind": "patient.updated", "occurred_at": "2024-03-01T10:00:00Z", **parts}
    event = Event(source=Source(), patient=Patient(mrn=RECORD, family="O'Hara|\n"), **values)
    return Document(message=None, received_at=0.0, event=event)


def test_json_template_takes_a_resource_as_a_value() -> None:
    text = '{"resource": {{ event | fhir("Patient") }}, "family": "{{ patient.family }}"}'
    rendered = orjson.loads(compile_template(text, "json")(document()))
    assert rendered["resource"]["name"] == [{"family": "O'Hara|"}]


def test_set_can_take_a_resource_apart() -> None:
    assert compile_expression("(event | fhir('Patient')).identifier[0].value")(document()) == "7"


def test_decimals_keep_their_digits_in_a_template() -> None:
    seen = Observation(value="1.10", value_type="quantity")
    text = compile_template("{{ event | fhir('Observation') }}", "json")(document(observations=(seen,)))
    assert '"value":1.10' in text


@pytest.mark.parametrize("kind", ["text", "hl7"])
def test_template_takes_a_whole_message(kind: str) -> None:
    text = "{{ event | hl7('ADT^A08', version='2.4', sending='HANDOFF|MERCY') }}"
    message = compile_template(text, kind)(document())
    assert message.startswith("MSH|^~\\&|HANDOFF|MERCY|")
    assert map_message(Message.parse(message.encode())).patient.family == "O'Hara|"


@pytest.mark.parametrize(
    ("text", "told", "hint"),
    [
        ("event | fhir('Pateint')", "Pateint is not a resource", "Patient"),
        ("event | hl7('ADT^A88')", r"ADT\^A88 is not a message type", "ADT^A"),
        ("event | hl7(version='2.9')", "2.9 is not a version", "2."),
        ("event | fhir('Patient', zone='Mars/Base')", "no time zone", ""),
        ("event | fhir('Patient', zones='UTC')", "no option zones", "zone"),
        ("event | hl7('ADT^A08', '2.4')", "takes one value", ""),
        ("event | hl7('ADT^A08', optional='OBX-11, DG1')", "OBX-11, DG1 is no list of fields", "IN1-3"),
        ("event | hl7('ADT^A08', optional='OBX-99')", "OBX-99 does not exist", "explain"),
        ("patient | fhir('Patient')", "writes an event", "event | fhir"),
    ],
)
def test_mistake_is_found_when_it_is_compiled(text: str, told: str, hint: str) -> None:
    with pytest.raises(ExpressionError, match=told) as caught:
        compile_expression(text)
    assert hint in caught.value.hint


def test_partner_may_take_a_message_without_a_required_field() -> None:
    found = document(observations=(Observation(value="5", value_type="quantity"),))
    with pytest.raises(StepError, match="requires OBX-3") as caught:
        compile_expression("event | hl7('ADT^A08', optional='OBX-11')")(found)
    assert caught.value.location == "OBX-3"
    assert "OBX|1|NM|||5" in str(compile_expression("event | hl7('ADT^A08', optional='OBX-3, OBX-11')")(found))


def test_mistake_that_only_shows_later_is_told_without_values() -> None:
    for text in ("event | fhir(patient.family)", "event | hl7('ADT^A08', optional=patient.family)"):
        with pytest.raises(StepError, match=r"of (fhir|hl7) is (not a resource|no list)") as caught:
            compile_expression(text)(document())
        assert "Hara" not in str(caught.value)
    with pytest.raises(StepError, match="only an event can be written"):
        compile_expression("patient.mrn.value and (kind | fhir('Patient'))", ["kind"])(
            Document(message=None, received_at=0.0, event=document().event, values={"kind": 1})
        )


# The destination.


def render(found: Document, **options: Any) -> dict[str, Any]:
    spec = FhirSpec.model_validate({"server": "ehr", **options})
    return dict(orjson.loads(spec.build_renderer(Kit(Path()))(found)))


def test_resource_by_name_is_found_by_its_first_identifier() -> None:
    request = render(document(), resource="Patient")
    assert request["type"] == "Patient"
    assert request["search"] == "identifier=MERCY%7C7"
    assert orjson.loads(request["resource"])["identifier"][0]["use"] == "usual"
    assert FhirSpec(server="ehr", resource="Patient").unknown_policy() == "retry"  # type: ignore[arg-type] # as in YAML


def test_search_of_the_channel_goes_before() -> None:
    assert (
        render(document(), resource="Patient", search="identifier={{ patient.mrn.value }}")["search"] == "identifier=7"
    )


def test_zone_is_that_of_times_without_offset() -> None:
    visit = Encounter(patient_class="O", admitted_at="2024-07-01T10:30:00")
    request = render(document(encounter=visit), resource="Encounter", zone="America/Chicago")
    assert orjson.loads(request["resource"])["period"]["start"] == "2024-07-01T10:30:00-05:00"


def test_bundle_is_a_transaction_that_needs_no_search() -> None:
    request = render(document(), resource="Bundle")
    assert (request["type"], request["search"], request["bundle"]) == ("Bundle", "", "transaction")
    entries = [{"response": {"status": "201 Created"}}] * request["entries"]
    answer = Answer(200, {}, orjson.dumps({"resourceType": "Bundle", "type": "transaction-response", "entry": entries}))
    assert request["entries"] > 0
    assert isinstance(bundle_outcome(answer, "server x", "transaction", request["entries"]), Delivered)


@pytest.mark.parametrize(
    "options",
    [
        {"resource": '{"resourceType": "Patient"}', "zone": "UTC"},
        {"resource": "Bundle", "search": "identifier=1"},
    ],
)
def test_options_that_do_not_go_together_are_refused(options: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match=r"zone belongs|leave `search` out"):
        FhirSpec.model_validate({"server": "ehr", **options})


def test_event_without_the_resource_is_told_what_to_do() -> None:
    with pytest.raises(StepError, match="gives no Encounter; let `when:` choose"):
        render(document(), resource="Encounter")


def test_unknown_name_is_found_by_a_check(tmp_path: Path) -> None:
    from tests.project import CHANNEL, Project  # noqa: PLC0415 - only this test makes a project

    project = Project(tmp_path)
    project.channel(CHANNEL.replace("resource: templates/patient.json.j2", "resource: Pateint"))
    told = [line for line in project.told() if "E202" in line]
    assert len(told) == 1
    assert "Pateint is not a resource" in told[0]
    assert "Patient" in told[0].rpartition("(")[2]
