"""This module tests what a gateway calls back with, end to end: engine, sandbox, and calls signed as Twilio's."""

import base64
import hmac
import json
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any, Final

from tests.functional.running import Running
from tests.functional.test_texts import register, until_reply
from tests.ports import free_port

URL: Final = "https://hooks.example.org/texts"
TOKEN: Final = "sandbox"
REPLIES: Final = """\
channel: text-replies
listen:
  callbacks: {{endpoint: "127.0.0.1:{port}", path: /texts, gateway: twilio, callers: [twilio]}}
format: text
steps:
  - canonical: {{}}
deliver:
  patient-store:
    when: event.kind in ['consent.given', 'consent.withdrawn']
    prm: {{}}
"""


def call(port: int, key: str = TOKEN, query: str = "", **fields: str) -> int:
    """Call as Twilio does; return the status of the answer."""
    signed = URL + query + "".join(name + fields[name] for name in sorted(fields))
    signature = base64.b64encode(hmac.digest(key.encode(), signed.encode(), "sha1")).decode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/texts{query}",
        urllib.parse.urlencode(fields).encode(),
        {"X-Twilio-Signature": signature, "Content-Type": "application/x-www-form-urlencoded"},
    )
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return int(error.code)


def taken(engine: Running) -> tuple[str, str]:
    """Return the number and the name of the one text that the sandbox took."""
    url = f"http://127.0.0.1:{engine.sandbox}/2010-04-01/Accounts/ACsandbox/Messages.json"
    basic = base64.b64encode(f"ACsandbox:{TOKEN}".encode()).decode()
    request = urllib.request.Request(url, headers={"Authorization": f"Basic {basic}"})
    with urllib.request.urlopen(request, timeout=20) as answer:
        (message,) = json.load(answer)["messages"]
    return message["to"], message["sid"]


def text_of(engine: Running, control_id: str) -> dict[str, Any]:
    found = engine.read("trace", control_id)["deliveries"]
    return next(each for each in found if each["destination"] == "welcome-text")


def test_a_text_is_reported_delivered_and_who_answers_stop_gets_no_other(tmp_path: Path) -> None:
    engine, port = Running(tmp_path), free_port()
    settings = tmp_path / "handoff.yaml"
    told = settings.read_text().replace(
        '    from: "+12055550100"\n', f'    from: "+12055550100"\n    callback: {URL}\n    replies: text-replies\n'
    )
    settings.write_text(told + "\ncallers:\n  twilio: {signature: {secret: '${env:TWILIO_TOKEN:-sandbox}'}}\n")
    (tmp_path / "channels" / "text-replies.yaml").write_text(REPLIES.format(port=port))
    with engine:
        assert register(engine, "TEXT0001")["state"] == "delivered"
        number, sid = taken(engine)
        assert call(port, "guess", MessageSid=sid, MessageStatus="failed") == 401
        query = "?delivery=k1"  # as it stands in the callback that each text names
        for state in ("delivered", "sent", "delivered", "queued"):
            assert call(port, query=query, MessageSid=sid, MessageStatus=state, To=number) == 200
        assert call(port, MessageSid="SM0", MessageStatus="delivered") == 200  # of a text that is not ours
        until = time.monotonic() + 10
        while len(text_of(engine, "TEXT0001")["reports"]) < 2:
            assert time.monotonic() < until
            time.sleep(0.1)
        delivery = text_of(engine, "TEXT0001")
        assert [one["state"] for one in delivery["reports"]] == ["sent", "delivered"]
        assert delivery["state"] == "delivered"

        for _ in range(2):
            assert call(port, MessageSid="SM1", From=number, To="+12055550100", Body="ARRET", OptOutType="STOP") == 200
        until_reply(engine, 1)
        assert register(engine, "TEXT0002")["state"] == "suppressed"
        assert number not in engine.log.read_text()
