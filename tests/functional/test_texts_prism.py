"""This module sends texts to the vendors' own API descriptions: Prism refuses what breaks them.

Vonage's Messages API is not here: the last description that is public is of its version 0.1, and we speak version 1.
"""

import asyncio
import json
import os
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, cast
from urllib.parse import urlsplit

import orjson
import pytest
import yaml
from pydantic import TypeAdapter

from broker.delivery import Delivered, Delivery, Outcome, Rejected
from broker.parts import Tools
from config.gateways import AnyGateway
from dispatch.sms import SmsSpec
from tests.conftest import Need
from tests.npm import node_modules
from tests.ports import free_port

VENDORS: Final = Path(__file__).parents[2] / "../shared/vendor-specs"
_START: Final = 60.0
TWILIO: Final = {"kind": "twilio", "account": "AC" + "0" * 32, "token": "${env:X:-sandbox}", "from": "+12025550100"}
VONAGE_SMS: Final = {"kind": "vonage-sms", "account": "abcd1234", "secret": "${env:X:-sandbox}", "from": "+12025550100"}

Serve = Callable[[Path], str]


def described(file: Path, folder: Path) -> Path:
    """Copy a description with the path of its server in each of its paths.

    Prism leaves the path of ``servers`` out, and our gateways need it.
    """
    if not file.exists():
        pytest.skip("the vendors' API descriptions are not here (../shared/vendor-specs)")
    shutil.copytree(file.parent, folder, dirs_exist_ok=True)
    document = yaml.safe_load(file.read_text()) if file.suffix == ".yml" else json.loads(file.read_text())
    base = urlsplit(document["servers"][0]["url"]).path.rstrip("/")
    document["paths"] = {f"{base}{path}".rstrip("/"): operations for path, operations in document["paths"].items()}
    document["servers"] = [{"url": "http://127.0.0.1"}]
    copy = folder / "described.json"
    copy.write_text(json.dumps(document, default=str))
    return copy


@pytest.fixture
def serve(need: Need, tmp_path: Path) -> Iterator[Serve]:
    """Give a function that has Prism serve a description, and returns its address."""
    modules = node_modules("@stoplight/prism-cli")
    processes: list[subprocess.Popen[bytes]] = []
    log = (tmp_path / "prism.log").open("wb")

    def start(description: Path) -> str:
        port = free_port()
        command = [need("node"), str(modules / ".bin" / "prism"), "mock", "--port", str(port), str(description)]
        environment = {**os.environ, "NO_UPDATE_NOTIFIER": "1"}
        processes.append(subprocess.Popen(command, stdout=log, stderr=log, env=environment))
        base = f"http://127.0.0.1:{port}"
        until = time.monotonic() + _START
        while not _answers(base):
            assert time.monotonic() < until, (tmp_path / "prism.log").read_text()
            time.sleep(0.1)
        return base

    yield start
    for process in processes:
        process.terminate()
        process.wait(10)
    log.close()


def _answers(base: str) -> bool:
    try:
        urllib.request.urlopen(f"{base}/", timeout=5).close()
    except urllib.error.HTTPError as error:
        error.close()
    except OSError:
        return False
    return True


async def send(base: str, declared: dict[str, str], tmp_path: Path, to: str, text: str) -> Outcome:
    """Send one text through a gateway at an address."""
    spec = TypeAdapter(AnyGateway).validate_json(orjson.dumps({**declared, "base": base}), strict=True)
    settings = SimpleNamespace(gateways={"vendor": spec}, patients=f"sqlite:///{tmp_path / 'patients.db'}")
    nothing = cast("Any", None)
    destination = SmsSpec.model_validate({"gateway": "vendor", "to": "x", "text": "x"}).build(
        Tools("adt", nothing, lambda _: None, settings)
    )
    await destination.open()
    delivery = Delivery(id=1, route=1, key="k" * 32, request=orjson.dumps({"to": to, "text": text}))
    (outcome,) = await destination.send([delivery])
    await destination.close()
    return outcome


def test_twilio_takes_our_texts(serve: Serve, tmp_path: Path) -> None:
    base = serve(described(VENDORS / "twilio/twilio_messages.trimmed.json", tmp_path / "twilio"))
    for extra in ({}, {"callback": "https://us.example/texts"}, {"from": "MG" + "0" * 32}):
        outcome = asyncio.run(send(base, TWILIO | extra, tmp_path, "+12025550123", "Grüße, “Ada” 🙂"))
        assert isinstance(outcome, Delivered), outcome
        assert outcome.reference.startswith("vendor/SM")


def test_vonage_takes_our_texts(serve: Serve, tmp_path: Path) -> None:
    base = serve(described(VENDORS / "vonage/sms.yml", tmp_path / "vonage"))
    for extra in ({}, {"callback": "https://us.example/texts"}):
        outcome = asyncio.run(send(base, VONAGE_SMS | extra, tmp_path, "+447700900000", "Grüße, “Ada” 🙂"))
        assert isinstance(outcome, Delivered), outcome
    # Prism does look: an account that is none breaks the description.
    refused = asyncio.run(send(base, VONAGE_SMS | {"account": "x"}, tmp_path, "+447700900000", "Hello"))
    assert isinstance(refused, Rejected), refused
