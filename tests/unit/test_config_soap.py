"""What `handoff check` says of a SOAP service that cannot be, at its place in the channel's file."""

from pathlib import Path
from typing import Final

import pytest

from tests.project import Project

CHANNEL: Final = """\
channel: feed
listen:
  soap:
    endpoint: 127.0.0.1:8640
    service:
      namespace: urn:mercy
      operations:
        put:
          request: {document: required}
          message: document
          response: {fields: {number: "{{ message }}"}}
format: json
deliver:
  patient-store: {prm: {}}
"""


@pytest.mark.parametrize(
    ("right", "wrong", "told"),
    [
        (
            "message: document",
            "mesage: document",
            '10:11 E104 unknown key "mesage" in listen.soap.service.operations.put',
        ),
        ("message: document", "message: doc", "8:9 E107 listen.soap.service.operations.put: doc is not among the"),
        (
            "message: document",
            "message: /a",
            "10:20 E107 listen.soap.service.operations.put.message needs another form",
        ),
        ("required", "maybe", "9:31 E107 listen.soap.service.operations.put.request.document needs one of required"),
        (
            "{{ message }}",
            "{{ mesage }}",
            "8:9 E107 listen.soap.service.operations.put: an answer of this operation knows",
        ),
        ("format: json", "format: fhir", ""),
        ("{{ message }}", "{{ acknowledgment }}", "12:9 E107 listen.soap brings hl7, not json"),
        ("urn:mercy", "'urn: mercy'", "6:18 E107 listen.soap.service.namespace needs another form"),
        ("8640", "8640\n    answer: {from: deliver.me}", '5:20 E301 listen.soap.answer.from names "me"'),
        ("8640", "8640\n    callers: [me]", '5:15 E301 listen.soap.callers.1 names "me", which is no caller'),
        ("8640", "8640\n    preset: cdc_2011", "3:3 E107 listen.soap: a service is a known one or described here"),
    ],
)
def test_mistakes_are_told_at_their_place(tmp_path: Path, right: str, wrong: str, told: str) -> None:
    project = Project(tmp_path)
    project.channel(CHANNEL.replace(right, wrong, 1))
    found = [f"{one.line}:{one.column} {one.code} {one.text}" for one in project.check().findings]
    assert [one[: len(told)] for one in found] == ([told] if told else [])
