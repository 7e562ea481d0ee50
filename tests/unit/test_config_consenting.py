"""Where consent is asked for, `handoff check` says what is missing, and what renders says whose it needs."""

from pathlib import Path
from typing import Any

import pytest

from broker.errors import StepError
from broker.message import Document
from config.build import build_program
from dispatch.consent import ConsentRenderer
from tests.faults.harness.feed import adt
from tests.project import CHANNEL, Project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def told(project: Project, text: str) -> list[str]:
    """Return the findings of a channel file, each with its code."""
    project.channel(text)
    return [f"{one.code} {one.text}" for one in project.check().findings]


def test_consent_needs_no_more_than_a_purpose_where_the_medium_is_known(project: Project) -> None:
    asking = CHANNEL.replace("  text:\n", "  text:\n    consent: {purpose: appointment}\n")
    assert told(project, asking) == []
    assert told(project, asking.replace("    after: store\n", "")) == [
        "E314 deliver.text.consent: it may be sent before store knows what this message says of consent"
    ]


@pytest.mark.parametrize(
    ("place", "consent", "says"),
    [
        ("store", "{purpose: appointment}", "E313 deliver.store.consent: prm reaches no person"),
        ("text", "{purpose: appointment, medium: phone}", "E313 deliver.text.consent: sms reaches people by sms, not"),
        ("text", "{}", 'E105 deliver.text.consent needs the key "purpose"'),
        ("text", "{purpose: a b}", "E107 deliver.text.consent.purpose"),
    ],
)
def test_consent_that_cannot_be_asked_for_is_found(project: Project, place: str, consent: str, says: str) -> None:
    found = told(project, CHANNEL.replace(f"  {place}:\n", f"  {place}:\n    consent: {consent}\n"))
    assert [one for one in found if one.startswith(says)], found


SMS: dict[str, Any] = {"sms": {"gateway": "g", "to": "+12025550123", "text": "t"}, "consent": {"purpose": "visit"}}


def test_consent_needs_to_know_whose(project: Project) -> None:
    without = CHANNEL.replace("  - canonical:\n      patient: {mobile: PID-13.1}\n", "").replace(
        "  - script: s", "  - x: s"
    )
    found = told(project, without.replace("  text:\n", "  text:\n    consent: {purpose: visit}\n"))
    assert "E313 deliver.text.consent needs an event, which says whose consent it is" in found


def test_request_says_whose_consent_it_needs(tmp_path: Path) -> None:
    tree: dict[str, Any] = {
        "channel": "feed",
        "listen": {"mllp": {"endpoint": "127.0.0.1:0"}},
        "deliver": {"text": SMS},
        "steps": [{"canonical": {}}],
    }
    _, (request,) = build_program(tree, tmp_path).process(adt("C1", "1", 1), 0.0)
    head, _newline, rest = request.partition(b"\n")
    assert head.startswith(b'\0consent of ["')
    assert rest.startswith(b'{"encoding":')
    without = {**tree, "deliver": {"text": {"sms": SMS["sms"]}}}
    assert build_program(without, tmp_path).process(adt("C1", "1", 1), 0.0)[1] == [rest]
    with pytest.raises(StepError, match=r"has no patient\.mrn") as caught:
        ConsentRenderer(lambda _: b"")(Document(message=None, received_at=0.0))
    assert caught.value.location == "PID-3"
