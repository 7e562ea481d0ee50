"""Files that come over HTTP keep the contract: each answer tells what was taken, and names what was not."""

import json
from typing import Final

import pytest

from broker.formats.delimited import CsvSpec
from listeners.http import HttpSpec
from tests import http_peer
from tests.http_peer import serving

MESSAGE: Final = b"MSH|^~\\&|EPIC|MERCY|HANDOFF|PRM|20261120||ADT^A08|M1|P|2.5\rPID|1||1\r"


async def test_file_of_a_form_that_is_none_keeps_no_other_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_peer, "FORMATS", {"csv": CsvSpec.model_validate({}).build(None)})
    part = b'--x\r\nContent-Disposition: form-data; name="%b"; filename="%b.csv"\r\n\r\n%b\r\n'
    files = ((b"g1", b"id,name\n1,a\n"), (b"bad", b"\xff\xfe\0\1zzz"), (b"g2", b"id,name\n2,b\n3,c\n"))
    body = b"".join(part % (name, name, data.strip()) for name, data in files) + b"--x--\r\n"
    async with serving(HttpSpec, "csv", takes="file") as world:
        _, answer, _ = await world.ask(
            "POST", "/", data=body, headers={"Content-Type": "multipart/form-data; boundary=x"}
        )
        told = json.loads(answer)
        assert (told["status"], told["messages"], len(told["refused"]), len(world.kept.messages)) == (422, 3, 1, 3)
        assert told["refused"][0].startswith("bad.csv: ")
        assert world.kept.quarantined == [b"\xff\xfe\0\1zzz"]


async def test_trailer_that_counts_what_did_not_come_is_told() -> None:
    batch = b"BHS|^~\\&|EPIC\r" + MESSAGE + MESSAGE.replace(b"|M1|", b"|M2|") + b"BTS|%d\r"
    async with serving(HttpSpec, "hl7", takes="file") as world:
        status, answer, _ = await world.ask("POST", "/", data=batch % 3)
        told = json.loads(answer)
        assert (status, told["messages"], told["duplicates"]) == (422, 2, 0)
        assert told["refused"][0].startswith("body: BTS-1: the trailer counts 3 messages, 2 came")
        for good in (batch % 2, MESSAGE):
            assert (await world.ask("POST", "/", data=good))[0] == 202
