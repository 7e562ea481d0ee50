"""This module tests how answers and failures of HTTP are classed; sockets are in tests/contract."""

import ssl
import subprocess
import sys
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.delivery import Delivered, Rejected, Retry, Unknown
from broker.errors import ConfigError
from broker.places import reveal
from dispatch.http import LONGEST_WAIT, Answer, Exchange, by_status, failure, retry_after, web_address

NOW = 1_800_000_000.0  # Fri, 15 Jan 2027 08:00:00 GMT


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("7", 7.0),
        (" 120 ", 120.0),
        ("99999999999999999999", LONGEST_WAIT),
        ("Fri, 15 Jan 2027 08:01:30 GMT", 90.0),
        ("Friday, 15-Jan-27 08:01:30 GMT", 90.0),
        ("Fri, 15 Jan 2027 07:00:00 GMT", 0.0),
        ("Fri, 15 Jan 2038 07:00:00 GMT", LONGEST_WAIT),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("٣", None),
        ("Fri, 99 Jan 2027 08:00:00 GMT", None),
    ],
)
def test_retry_after_is_read_in_both_forms(value: str, seconds: float | None) -> None:
    assert retry_after({"retry-after": value}, NOW) == seconds


def test_retry_after_is_none_when_absent() -> None:
    assert retry_after({}, NOW) is None


@given(st.text(max_size=60))
def test_retry_after_never_raises_and_stays_in_bounds(value: str) -> None:
    seconds = retry_after({"retry-after": value}, NOW)
    assert seconds is None or 0 <= seconds <= LONGEST_WAIT


@pytest.mark.parametrize(
    ("statuses", "kind"),
    [
        ((200, 201, 202, 204), Delivered),
        ((408, 425, 429, 503), Retry),
        ((500, 502, 504, 507, 520), Unknown),
        ((301, 302, 303, 307, 308, 400, 401, 403, 404, 405, 409, 410, 412, 413, 415, 422, 451, 501, 505), Rejected),
    ],
)
def test_status_decides_the_class(statuses: tuple[int, ...], kind: type) -> None:
    for status in statuses:
        assert type(by_status(Answer(status), "server ehr", NOW)) is kind, status


def test_reason_names_status_peer_and_detail() -> None:
    outcome = by_status(Answer(429, {"retry-after": "3"}, b"+12025550123"), "gateway twilio", NOW, "code 20429")
    assert outcome == Retry("HTTP 429 from gateway twilio (code 20429)", after=3.0, response=b"+12025550123")
    assert "2025550123" not in repr(outcome)


def test_failure_is_retry_only_when_nothing_was_sent() -> None:
    error = ConnectionResetError("to https://ehr/Patient?identifier=0012")
    assert failure(error, "server ehr", started=True) == Unknown("server ehr: the connection was reset")
    assert isinstance(failure(error, "server ehr", started=False), Retry)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ConnectionRefusedError("secret"), "refused"),
        (TimeoutError("secret"), "time allowed"),
        (ssl.SSLError("secret"), "TLS"),
        (type("ClientConnectorDNSError", (OSError,), {})("secret"), "resolved"),
        (OSError("secret"), "OSError"),
    ],
)
def test_failure_says_what_kept_us_out_without_the_error_text(error: Exception, words: str) -> None:
    reason = failure(error, "server ehr", started=False).reason
    assert words in reason
    assert "secret" not in reason


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (TimeoutError("secret"), "time allowed"),
        (BrokenPipeError("secret"), "reset"),
        (type("ServerDisconnectedError", (OSError,), {})("secret"), "ended before"),
        (ValueError("secret"), "ValueError"),
    ],
)
def test_failure_says_what_broke_without_the_error_text(error: Exception, words: str) -> None:
    reason = failure(error, "server ehr", started=True).reason
    assert words in reason
    assert "secret" not in reason


@pytest.mark.parametrize(
    "value", ["https://ehr.example/fhir/", "http://127.0.0.1:8090", "https://ehr.example:8443/a/b"]
)
def test_web_address_keeps_a_plain_address(value: str) -> None:
    assert web_address(value, "here") == value.rstrip("/")


@pytest.mark.parametrize(
    "value",
    [
        *(None, "", "ehr.example", "ftp://ehr.example", "https://", "https://a:b@ehr.example", "https://e/?a=b"),
        *("https://{{ patient.family }}.example/api", "https://e%2f.example", "https://e\\.example", "https://e:x"),
    ],
)
def test_web_address_is_refused_when_it_is_not_plain(value: object) -> None:
    with pytest.raises(ConfigError, match=r"handoff\.yaml, servers\.ehr\.base: needs an address"):
        web_address(value, "handoff.yaml, servers.ehr.base")


def test_reveal_opens_wrapped_secrets_and_takes_plain_ones() -> None:
    assert reveal(SimpleNamespace(reveal=lambda: "s3cret")) == "s3cret"
    assert reveal("s3cret") == "s3cret"
    assert reveal(None) == ""


async def test_exchange_is_refused_before_open() -> None:
    with pytest.raises(RuntimeError, match="before open"):
        await Exchange("server ehr", timeout=1).exchange("GET", "http://127.0.0.1:1/")


def test_declarations_load_no_client_and_no_models() -> None:
    """A channel file is checked often; 200 ms of aiohttp and 300 ms of FHIR models are not for that."""
    code = (
        "import sys, dispatch.sms, dispatch.fhir;"
        "print([name for name in ('aiohttp', 'phonenumbers', 'fhir.resources') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
