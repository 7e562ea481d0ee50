"""This module holds the S3 destination to its contract, with moto's server, which checks signatures, and a script."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from types import SimpleNamespace
from typing import Any, Final, cast
from urllib.request import Request, urlopen

import boto3
import pytest
from moto.server import ThreadedMotoServer

from broker.delivery import Delivered, Delivery, Outcome, Rejected, Retry, Unknown, Via
from broker.errors import ConfigError
from broker.ids import show
from broker.parts import Destination, Tools
from dispatch.s3 import S3OutSpec
from tests.contract.scripted_server import ScriptedServer, closed_port, hang, reply, reset
from tests.contract.test_filing_contract import NUMBER, delivery

_SET_UP: Final = '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}'
SECRETS: Final = ("s3cret", "MSH", "0012")


def settings(base: str, access_key: str = "AKIA", secret: Any = None, **options: Any) -> Any:
    secret = secret or "s3cret"
    given = {"bucket": "inbox", "region": "us-east-1", "session_token": None, "style": "path", **options}
    place = SimpleNamespace(base=base, access_key=access_key, secret=secret, **given)
    return SimpleNamespace(root=None, places={"archive": SimpleNamespace(sftp=None, s3=place)})


def build(known: Any, **options: Any) -> Destination:
    nothing = cast("Any", None)
    tools = Tools(channel="adt", intake=nothing, notify=lambda _: None, settings=known)
    return S3OutSpec.model_validate({"place": "archive", "timeout": "5s", **options}).build(tools)


async def send(known: Any, *deliveries: Delivery, **options: Any) -> list[Outcome]:
    destination = build(known, **options)
    await destination.open()
    outcomes = [(await destination.send([each]))[0] for each in deliveries]
    await destination.close()
    return outcomes


class Store:
    """moto's server, with a user whose signatures it checks."""

    def __init__(self, base: str) -> None:
        self.base = base
        self.client = boto3.client(
            "s3", endpoint_url=base, region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x"
        )
        self.client.create_bucket(Bucket="inbox")
        users = boto3.client(
            "iam", endpoint_url=base, region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x"
        )
        users.create_user(UserName="handoff")
        users.put_user_policy(UserName="handoff", PolicyName="s3", PolicyDocument=_SET_UP)
        key = users.create_access_key(UserName="handoff")["AccessKey"]
        users.close()
        self.known = settings(base, key["AccessKeyId"], key["SecretAccessKey"])

    def check_signatures(self, *, of_all: bool) -> None:
        """Check signatures from now on, or of nothing."""
        free = b"0" if of_all else b"inf"
        plain = {"Content-Type": "text/plain"}
        urlopen(Request(f"{self.base}/moto-api/reset-auth", free, plain, method="POST")).close()

    def objects(self) -> dict[str, bytes]:
        """Return all objects."""
        self.check_signatures(of_all=False)
        found = self.client.list_objects_v2(Bucket="inbox").get("Contents", [])
        read = {each["Key"]: self.client.get_object(Bucket="inbox", Key=each["Key"])["Body"].read() for each in found}
        self.check_signatures(of_all=True)
        return read


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    running = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture
def store(server: str) -> Iterator[Store]:
    urlopen(Request(f"{server}/moto-api/reset", method="POST")).close()
    store = Store(server)
    store.check_signatures(of_all=True)
    yield store
    store.check_signatures(of_all=False)
    store.client.close()


async def test_object_is_put_under_its_name(store: Store) -> None:
    content = bytes(range(256)) * 1000
    (outcome,) = await send(store.known, delivery("Jos%C3%A9 a+b.hl7", content), prefix="adt/mercy/")
    assert outcome == Delivered(reference="inbox/adt/mercy/Jos%C3%A9 a+b.hl7")
    assert outcome.via == Via(store.base.removeprefix("http://"))
    assert store.objects() == {"adt/mercy/Jos%C3%A9 a+b.hl7": content}
    (outcome,) = await send(store.known, delivery(".hl7"), encryption="AES256", content_type="text/plain")
    assert outcome == Delivered(reference=f"inbox/{show(NUMBER)}.hl7")


@pytest.mark.parametrize("exists", ["refuse", "same_is_done", "replace"])
async def test_second_attempt_finds_what_the_first_one_put(store: Store, exists: str) -> None:
    outcomes = await send(store.known, delivery(), delivery(attempt=2), exists=exists)
    again = "inbox/a.hl7" if exists == "replace" else "a.hl7"
    assert outcomes == [Delivered(reference="inbox/a.hl7"), Delivered(reference=again)]
    assert store.objects() == {"a.hl7": b"MSH|1\r"}


async def test_name_that_is_taken_means_what_the_channel_says(store: Store) -> None:
    store.check_signatures(of_all=False)
    store.client.put_object(Bucket="inbox", Key="a.hl7", Body=b"other")
    store.check_signatures(of_all=True)
    for exists in ("refuse", "same_is_done"):
        (outcome,) = await send(store.known, delivery(attempt=2), exists=exists)
        assert isinstance(outcome, Rejected), outcome
        assert "with other content" in outcome.reason
        assert store.objects() == {"a.hl7": b"other"}
    (outcome,) = await send(store.known, delivery(), exists="replace")
    assert isinstance(outcome, Delivered)
    assert store.objects() == {"a.hl7": b"MSH|1\r"}
    (outcome,) = await send(store.known, delivery(), exists="refuse")
    assert isinstance(outcome, Rejected)


async def test_login_or_bucket_that_is_wrong_waits_until_somebody_mends_it(store: Store) -> None:
    place = store.known.places["archive"].s3
    wrong = settings(store.base, place.access_key, "wrong")
    for known, code in (
        (wrong, "SignatureDoesNotMatch"),
        (settings(store.base, "AKIANOBODY", "x"), "InvalidAccessKeyId"),
        (settings(store.base, place.access_key, place.secret, bucket="nowhere"), "NoSuchBucket"),
    ):
        (outcome,) = await send(known, delivery())
        assert isinstance(outcome, Retry), outcome
        assert outcome.reason.endswith(f"({code})")
    assert not store.objects()


@pytest.fixture
async def scripted() -> AsyncIterator[ScriptedServer]:
    server = ScriptedServer()
    await server.start()
    yield server
    await server.stop()


@pytest.mark.parametrize(
    ("behaviour", "kind"),
    [
        (hang, Unknown),
        (reset, Unknown),
        (reply(500), Unknown),
        (reply(200, b"<html>Log in</html>"), Unknown),
        (reply(200, b"<Error><Code>InternalError</Code></Error>", ETag="x"), Unknown),
        (reply(503, b"<Error><Code>SlowDown</Code></Error>"), Retry),
        (reply(403, b"<Error><Code>RequestTimeTooSkewed</Code></Error>"), Retry),
        (reply(409, b"<Error><Code>ConditionalRequestConflict</Code></Error>"), Retry),
        (reply(429), Retry),
        (reply(301, b"<Error><Code>PermanentRedirect</Code></Error>"), Rejected),
        (reply(400, b"<Error><Code>InvalidDigest</Code><Message>0012</Message></Error>"), Rejected),
        (reply(501, b"<Error><Code>NotImplemented</Code></Error>"), Rejected),
    ],
)
async def test_outcome_follows_from_what_the_store_does(scripted: ScriptedServer, behaviour: Any, kind: type) -> None:
    scripted.on("PUT", behaviour)
    (outcome,) = await send(settings(scripted.base), delivery(), timeout="200ms")
    assert isinstance(outcome, kind), outcome
    assert not [secret for secret in SECRETS if secret in repr(outcome)]
    assert scripted.requests[0].headers["if-none-match"] == "*"
    assert scripted.requests[0].body == b"MSH|1\r"


@pytest.mark.parametrize(
    ("behaviour", "kind"),
    [(hang, Retry), (reply(404), Retry), (reply(500), Retry), (reply(403), Rejected), (reply(200), Rejected)],
)
async def test_comparing_decides_nothing_by_itself(scripted: ScriptedServer, behaviour: Any, kind: type) -> None:
    scripted.on("PUT", reply(412))
    scripted.on("HEAD", behaviour)
    (outcome,) = await send(settings(scripted.base), delivery(), timeout="300ms")
    assert isinstance(outcome, kind), outcome


async def test_store_that_cannot_be_reached_is_tried_again() -> None:
    (outcome,) = await send(settings(f"http://127.0.0.1:{closed_port()}"), delivery())
    assert isinstance(outcome, Retry)


async def test_bucket_may_stand_in_the_host_name() -> None:
    destination: Any = build(settings("https://s3.example", style="host"))
    assert destination.access.base == "https://inbox.s3.example"
    with pytest.raises(ConfigError, match="'archive' is no bucket"):
        build(SimpleNamespace(root=None, places={}))
    await asyncio.sleep(0)
