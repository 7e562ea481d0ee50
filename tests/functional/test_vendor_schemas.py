# ruff: noqa: E501 - one request of a table is one line
"""What presets ask for is held to the vendors' own API descriptions, by a mock server of somebody else's (Prism).

Prism answers 4xx where a request breaks the description; every operation is also sent with a mistake in it, to see that.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import pytest

from broker.delivery import Delivered, Delivery, Outcome, Rejected
from dispatch.web.rendering import Frozen
from dispatch.web.spec import HttpSpec
from tests.conftest import Need
from tests.contract.systems import KEY, PRESETS, destination, render, spec
from tests.peers.prism import prism

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@dataclass(frozen=True)
class Case:
    """One operation: values that make a good request, and what in the frozen request a mistake replaces."""

    operation: str
    values: dict[str, Any] = field(default_factory=dict)
    breaks: tuple[bytes, bytes] = (b"", b"")


ITERABLE: Final = [
    Case("upsert_patient", breaks=(b'"preferUserId":true', b'"preferUserId":"yes"')),
    Case("upsert_patients", breaks=(b'"preferUserId":true', b'"preferUserId":"yes"')),
    Case("track_event", {"at": 1767323045}, (b'"eventName":"patient.registered",', b"")),
    Case("track_events", {"at": 1767323045}, (b'"eventName":"patient.registered",', b"")),
    Case("send_email", {"campaign": 7, "data": {"ward": "4E"}}, (b'"campaignId":7,', b"")),
    Case("send_text", {"campaign": 7}, (b'"campaignId":7,', b"")),
    Case("update_subscriptions", {"subscriptions": {"unsubscribedChannelIds": [12]}}, (b"[12]", b'"none"')),
]
ZOOM: Final = [
    Case("create_meeting", {"host": "me", "zone": "America/Chicago"}, (b'"duration":30', b'"duration":"long"')),
    Case("update_appointment", {"meeting": 85746065, "minutes": 15}, (b'"duration":15', b'"duration":"long"')),
    Case("cancel_meeting", {"meeting": 85746065}, (b"meetings/", b"meetingz/")),
    Case("find_meetings", {"host": "me"}, (b"/meetings", b"/meetingz")),
]
CASES: Final = [("iterable", case) for case in ITERABLE] + [("zoom", case) for case in ZOOM]
AUTH: Final = {
    "iterable": {"auth": {"api_key": {"header": "Api-Key", "secret": "${env:S}"}}},
    "zoom": {"auth": {"bearer": {"token": "${env:S}"}}},
}


@pytest.fixture(scope="module")
def servers(need: Need, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    folder = tmp_path_factory.mktemp("prism")
    with (
        prism(need, "iterable/iterable.json", folder / "iterable.log") as iterable,
        prism(need, "zoom/zoom.json", folder / "zoom.log") as zoom,
    ):
        yield {"iterable": f"{iterable}/api", "zoom": zoom}


async def ask(declared: HttpSpec, base: str, request: bytes, **system: Any) -> Outcome:
    made = destination(declared, base, **system)
    await made.open()
    (outcome,) = await made.send([Delivery(id=1, route=1, key=KEY, request=request)])
    await made.close()
    assert isinstance(outcome, Outcome)
    return outcome


def test_every_operation_that_is_said_to_be_tested_by_schema_is_in_the_table() -> None:
    told = {
        (name, each)
        for name, preset in PRESETS.items()
        for each, about in preset.operations.items()
        if about.tested == "schema"
    }
    assert told == {(name, case.operation) for name, case in CASES}


@pytest.mark.parametrize(("preset", "case"), CASES, ids=[f"{name} {case.operation}" for name, case in CASES])
async def test_vendor_takes_what_the_preset_asks(servers: dict[str, str], preset: str, case: Case) -> None:
    declared = spec(preset, case.operation, case.values)
    request = render(declared)
    outcome = await ask(declared, servers[preset], request, **AUTH[preset])
    assert isinstance(outcome, Delivered), outcome
    broken = request.replace(*case.breaks)
    assert broken != request
    outcome = await ask(declared, servers[preset], broken, **AUTH[preset])
    assert isinstance(outcome, Rejected), outcome


@pytest.mark.parametrize("status", [400, 401, 409])
async def test_errors_of_the_vendor_are_read_as_they_are_described(servers: dict[str, str], status: int) -> None:
    declared = spec("iterable", "upsert_patient")
    frozen = Frozen.unpacked(render(declared), KEY)
    frozen.headers["Prefer"] = f"code={status}"
    outcome = await ask(declared, servers["iterable"], frozen.packed(), **AUTH["iterable"])
    assert isinstance(outcome, Rejected), outcome
    assert f"HTTP {status}" in outcome.reason


async def test_vendor_refuses_without_our_key(servers: dict[str, str]) -> None:
    declared = spec("iterable", "upsert_patient")
    wrong = {"auth": {"api_key": {"header": "X-Wrong", "secret": "${env:S}"}}}
    outcome = await ask(declared, servers["iterable"], render(declared), **wrong)
    assert isinstance(outcome, Rejected), outcome
    assert "401" in outcome.reason
