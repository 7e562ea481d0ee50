"""This module tests the practice SMS gateway against Twilio's API description, without a socket."""

import base64
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import orjson
import pytest
from starlette.types import Message

from broker.wire.gsm import cut
from console.sandbox.app import build
from console.sandbox.record import Record
from dispatch.http import Answer
from dispatch.texts.twilio import Twilio

VENDOR = Path(__file__).parents[2] / "../shared/vendor-specs/twilio/twilio_messages.trimmed.json"
ACCOUNT = "AC" + "0" * 32
PLACE = f"/2010-04-01/Accounts/{ACCOUNT}/Messages.json"
GOOD = {"To": "+12025550123", "From": "+12025550100", "Body": "Welcome"}


class Site:
    """The application, called as a server would call it."""

    def __init__(self, record: Record, **accounts: str) -> None:
        self._application = build(record, accounts)

    async def ask(self, method: str, path: str, body: bytes = b"", user: str = ACCOUNT, **headers: str) -> Answer:
        place, _, query = path.partition("?")
        basic = base64.b64encode(f"{user}:sandbox".encode()).decode()
        given = {"host": "127.0.0.1:8090", "authorization": f"Basic {basic}", **headers}
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": method,
            "path": place,
            "raw_path": place.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "scheme": "http",
            "server": ("127.0.0.1", 8090),
            "headers": [(name.encode(), value.encode()) for name, value in given.items()],
        }
        sent: list[Message] = []

        async def receive() -> Message:
            return {"type": "http.request", "body": body}

        async def send(message: Message) -> None:
            sent.append(message)

        await self._application(scope, receive, send)
        found = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return Answer(sent[0]["status"], found, b"".join(part.get("body", b"") for part in sent[1:]))

    async def text(self, **form: str) -> Answer:
        return await self.ask("POST", PLACE, urlencode({k: v for k, v in {**GOOD, **form}.items() if v}).encode())


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    record = Record(tmp_path / "sandbox.db")
    yield Site(record)
    record.close()


async def test_text_is_taken_and_listed(site: Site) -> None:
    made = await site.text()
    assert made.status == 201
    said = orjson.loads(made.body)
    assert said["sid"].startswith("SM")
    assert (said["to"], said["body"], said["status"], said["error_code"]) == ("+12025550123", "Welcome", "queued", None)
    listed = orjson.loads((await site.ask("GET", f"{PLACE}?To=%2B12025550123")).body)
    assert listed["messages"] == [said]
    assert orjson.loads((await site.ask("GET", f"{PLACE}?To=%2B12025550199")).body)["messages"] == []
    assert orjson.loads((await site.ask("GET", said["uri"])).body) == said


async def test_text_answer_is_as_the_vendor_describes(site: Site) -> None:
    if not VENDOR.exists():
        pytest.skip("the vendor's API description is not here (../shared/vendor-specs)")
    described = orjson.loads(VENDOR.read_bytes())["components"]["schemas"]["api.v2010.account.message"]["properties"]
    said = orjson.loads((await site.text()).body)
    assert set(said) == set(described)
    for name, schema in described.items():
        if said[name] is not None and "pattern" in schema:
            assert re.search(schema["pattern"], said[name]), name
        if said[name] is not None and schema.get("type") == "string":
            assert isinstance(said[name], str), name


@pytest.mark.parametrize(
    ("form", "code"),
    [
        ({"To": ""}, 21604),
        ({"From": ""}, 21603),
        ({"Body": ""}, 21602),
        ({"Body": "x" * 1601}, 21617),
        ({"To": "2025550123"}, 21211),
        ({"To": "+15005550001"}, 21211),
        ({"To": "+15005550002"}, 21612),
        ({"To": "+15005550003"}, 21408),
        ({"To": "+15005550004"}, 21610),
        ({"To": "+15005550009"}, 21614),
    ],
)
async def test_text_is_refused_with_the_vendors_code(site: Site, form: dict[str, str], code: int) -> None:
    refused = await site.text(**form)
    assert refused.status == 400
    said = orjson.loads(refused.body)
    assert (said["code"], said["status"]) == (code, 400)
    assert said["more_info"] == f"https://www.twilio.com/docs/errors/{code}"
    told = Twilio("twilio", "http://x", "AC1", "t", "+1").outcome(refused, 0.0)
    assert type(told).__name__ == ("Suppressed" if code == 21610 else "Rejected")


async def test_text_from_a_messaging_service_is_accepted(site: Site) -> None:
    said = orjson.loads((await site.text(From="", MessagingServiceSid="MG" + "0" * 32)).body)
    assert (said["status"], said["from"], said["num_segments"]) == ("accepted", None, "0")


def basic(user: str, token: str) -> str:
    return f"Basic {base64.b64encode(f'{user}:{token}'.encode()).decode()}"


@pytest.mark.parametrize(
    "credentials",
    [*("", "Bearer x", "Basic !!!"), basic("AC9", "sandbox"), basic(ACCOUNT, "bad"), basic(ACCOUNT, "")],
)
async def test_request_is_refused_without_the_accounts_credentials(site: Site, credentials: str) -> None:
    refused = await site.ask("POST", PLACE, urlencode(GOOD).encode(), authorization=credentials)
    assert refused.status == 401
    assert orjson.loads(refused.body)["code"] == 20003
    assert "www-authenticate" in refused.headers


@pytest.mark.parametrize(
    ("user", "token", "status"),
    [(ACCOUNT, "hünter", 201), (ACCOUNT, "sandbox", 401), ("AC9", "sandbox", 401), ("AC9", "", 401)],
)
async def test_account_that_is_known_has_its_own_token(tmp_path: Path, user: str, token: str, status: int) -> None:
    record = Record(tmp_path / "sandbox.db")
    site = Site(record, **{ACCOUNT: "hünter"})
    place = PLACE.replace(ACCOUNT, user)
    answer = await site.ask("POST", place, urlencode(GOOD).encode(), authorization=basic(user, token))
    assert answer.status == status
    record.close()


async def test_errors_look_like_the_side_that_was_asked(site: Site) -> None:
    assert orjson.loads((await site.ask("GET", "/2010-04-01/Nowhere")).body)["code"] == 20404
    assert orjson.loads((await site.ask("GET", PLACE.replace(".json", "/SM1.json"))).body)["code"] == 20404
    assert orjson.loads((await site.ask("DELETE", "/fhir/Patient/1")).body)["resourceType"] == "OperationOutcome"
    assert (await site.ask("GET", "/nowhere")).body == b"Not Found\n"


async def test_request_is_refused_when_another_site_asks_by_name(site: Site) -> None:
    assert (await site.ask("GET", "/log", host="rebound.example")).status == 400


async def test_page_and_log_show_what_arrived_and_escape_it(site: Site) -> None:
    assert b"Nothing yet" in (await site.ask("GET", "/")).body
    await site.text(Body="<script>alert(1)</script>")
    resource = orjson.dumps({"resourceType": "Patient", "name": [{"family": "<b>Okafor</b>"}]})
    headers = {"content-type": "application/fhir+json", "x-request-id": "key-1"}
    assert (await site.ask("POST", "/fhir/Patient", resource, **headers)).status == 201
    shown = (await site.ask("GET", "/")).body
    assert b"<script>alert" not in shown
    assert b"<b>" not in shown
    assert b"&lt;b&gt;Okafor" in shown
    log: dict[str, Any] = orjson.loads((await site.ask("GET", "/log")).body)
    (text,) = log["texts"]
    assert (text["kind"], text["to"], text["body"]) == ("text", "+12025550123", "<script>alert(1)</script>")
    (write,) = log["write_backs"]
    assert (write["kind"], write["type"], write["verb"], write["request_id"]) == (
        "write_back",
        "Patient",
        "create",
        "key-1",
    )
    later = orjson.loads((await site.ask("GET", f"/log?after={text['seq']}")).body)
    assert later["texts"] == []
    assert later["write_backs"] == [write]


@pytest.mark.parametrize(
    ("prefer", "expected"),
    [("return=minimal", b""), ("return=OperationOutcome", b"OperationOutcome"), ("", b"Patient")],
)
async def test_write_is_answered_as_preferred(site: Site, prefer: str, expected: bytes) -> None:
    headers = {"content-type": "application/fhir+json; charset=utf-8", "prefer": prefer}
    made = await site.ask("POST", "/fhir/Patient", b'{"resourceType":"Patient"}', **headers)
    assert made.status == 201
    assert expected in made.body
    assert made.headers["location"] == "http://127.0.0.1:8090/fhir/Patient/1/_history/1"


async def test_write_is_refused_when_it_is_not_fhir_json(site: Site) -> None:
    refused = await site.ask("POST", "/fhir/Patient", b"<Patient/>", **{"content-type": "application/fhir+xml"})
    assert refused.status == 415


@pytest.mark.parametrize(
    ("body", "count"),
    [("x" * 160, 1), ("x" * 161, 2), ("x" * 306, 2), ("x" * 307, 3), ("ž" * 70, 1), ("ž" * 71, 2), ("😀" * 35, 1)],
)
def test_segments_are_counted(body: str, count: int) -> None:
    assert cut(body).segments == count
