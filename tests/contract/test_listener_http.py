"""HTTP listeners keep the contract: a positive answer means committed, and no request can be read in two ways."""

import asyncio
import json
import resource
from pathlib import Path
from typing import Any

import pytest

from broker.errors import NotAccepted, NotReady
from broker.formats.delimited import CsvSpec
from broker.message import Conclusion, Ended
from broker.notices import Bug, MessageRefused
from listeners.http import HttpSpec
from tests import http_peer
from tests.conftest import Need
from tests.http_peer import World, serving

ADT = b"MSH|^~\\&|EPIC|MERCY|HANDOFF|PRM|20261120||ADT^A08|M1|P|2.5\rPID|1||1\r"


async def test_a_positive_answer_comes_after_the_commit() -> None:
    async with serving(HttpSpec, path="/lab") as world:
        world.kept.delay = 0.2
        status, body, headers = await world.ask("POST", "/lab", data=b'{"a":1}')
        assert (status, json.loads(body), headers["content-type"]) == (
            202,
            {"message": "0000000000001", "duplicate": False},
            "application/json",
        )
        assert world.kept.bodies == [b'{"a":1}']


async def test_the_answer_is_as_the_channel_has_it() -> None:
    answer = {"status": 200, "body": "kept {{ message }} of {{channel}}", "content_type": "text/plain"}
    async with serving(HttpSpec, answer=answer) as world:
        assert (await world.ask("POST", "/", data=b"1"))[:2] == (200, b"kept 0000000000001 of web")
    async with serving(HttpSpec, answer={"status": 204}) as world:
        assert (await world.ask("POST", "/", data=b"1"))[:2] == (204, b"")
    with pytest.raises(ValueError, match="knows message"):
        World(HttpSpec, "json", {}, Path(), answer={"body": "{{ body }}"})


async def test_the_same_key_and_body_is_one_message() -> None:
    async with serving(HttpSpec) as world:
        for expected in (False, True):
            _, body, _ = await world.ask("POST", "/", data=b"1", headers={"Idempotency-Key": '"k-1"'})
            assert json.loads(body)["duplicate"] is expected
        await world.ask("POST", "/", data=b"1")
        await world.ask("POST", "/", data=b"1")
        assert len(world.kept.messages) == 3  # without a key nothing is the same as something else
        assert (await world.ask("POST", "/", data=b"1", headers={"Idempotency-Key": "k" * 256}))[0] == 400


async def test_our_fault_is_503_and_the_messages_is_4xx() -> None:
    async with serving(HttpSpec) as world:
        world.kept.refusal = NotAccepted("the store is busy; send it again", code="AE", condition=207)
        status, body, headers = await world.ask("POST", "/", data=b"1")
        assert (status, headers["retry-after"], json.loads(body)["detail"]) == (
            503,
            "5",
            "the store is busy; send it again",
        )
        assert not world.kept.quarantined
        world.kept.refusal = None
        status, body, headers = await world.ask("POST", "/", data=b'{"name": "Okafor"')
        assert (status, headers["content-type"]) == (400, "application/problem+json")
        assert "line 1, column 18" in json.loads(body)["detail"]
        assert b"Okafor" not in body
        assert world.kept.quarantined == [b'{"name": "Okafor"']
        assert [type(notice) for notice in world.kept.notices if isinstance(notice, MessageRefused)]


async def test_what_is_not_served_says_so() -> None:
    async with serving(HttpSpec, path="/lab", content_types=["application/json"]) as world:
        assert (await world.ask("POST", "/other", data=b"1"))[0] == 404
        assert (await world.ask("POST", "/lab/below", data=b"1"))[0] == 404
        status, _, headers = await world.ask("GET", "/lab")
        assert (status, headers["allow"]) == (405, "POST")
        assert (await world.ask("POST", "/lab", data=b"1", headers={"Content-Type": "text/xml"}))[0] == 415
        good = {"Content-Type": "application/json; charset=utf-8"}
        assert (await world.ask("POST", "/lab", data=b"1", headers=good | {"Content-Encoding": "gzip"}))[0] == 415
        assert (await world.ask("POST", "/lab", data=b"", headers=good))[0] == 400
        assert (await world.ask("POST", "/lab", data=b"1", headers=good))[0] == 202
        assert world.kept.bodies == [b"1"]


async def test_hl7_is_answered_with_its_acknowledgment() -> None:
    async with serving(HttpSpec, "hl7") as world:
        kind = {"Content-Type": "x-application/hl7-v2+er7; charset=utf-8"}
        status, body, headers = await world.ask("POST", "/", data=ADT, headers=kind)
        assert (status, headers["content-type"]) == (200, "x-application/hl7-v2+er7")
        assert b"MSA|AA|M1" in body
        assert world.kept.bodies == [ADT]
        world.kept.refusal = NotAccepted("busy", code="AE", condition=207)
        status, body, headers = await world.ask("POST", "/", data=ADT)
        assert (status, headers["retry-after"], b"MSA|AE|M1" in body) == (503, "5", True)
        world.kept.refusal = NotAccepted("no", code="AR", condition=203, location="MSH-12")
        status, body, _ = await world.ask("POST", "/", data=ADT)
        assert (status, b"MSA|AR|M1" in body) == (400, True)
        world.kept.refusal = None
        never = ADT.replace(b"|P|2.5", b"|P|2.5|||NE|NE")
        assert (await world.ask("POST", "/", data=never))[:2] == (204, b"")
        assert (await world.ask("POST", "/", data=b"hello"))[0] == 400
        assert world.kept.quarantined[-1] == b"hello"
        refused = [notice for notice in world.kept.notices if isinstance(notice, MessageRefused)]
        assert len(refused) == 3  # each is told once


async def test_hl7_may_wait_for_its_steps() -> None:
    async with serving(HttpSpec, "hl7", answer={"from": "steps", "timeout": "200ms"}) as world:
        world.kept.ended = Ended("failed", "steps.1.filter", "PID-3", "there is none")
        status, body, _ = await world.ask("POST", "/", data=ADT.replace(b"|P|2.5", b"|P|2.5|||AL|AL"))
        assert (status, b"MSA|AE|M1" in body, b"PID^^3" in body or b"PID^1^3" in body) == (500, True, True), body
        world.kept.ended = Ended("filtered")
        status, body, _ = await world.ask("POST", "/", data=ADT)
        assert (status, b"MSA|AA|M1" in body) == (200, True)
        world.kept.delay = 0.4
        assert (await world.ask("POST", "/", data=ADT))[0] == 504


async def test_the_answer_may_wait_for_the_steps_or_a_delivery() -> None:
    answer = {"from": "steps", "timeout": "200ms", "body": "{{ state }} {{ message }}", "content_type": "text/plain"}
    async with serving(HttpSpec, answer=answer) as world:
        status, body, _ = await world.ask("POST", "/", data=b"1")
        assert (status, json.loads(body)) == (202, {"message": "0000000000001", "duplicate": False})  # not in time
        world.kept.concluded[""] = Conclusion("filtered", "no lab")
        assert (await world.ask("POST", "/", data=b"1"))[:2] == (202, b"filtered 0000000000002")
        world.kept.concluded[""] = Conclusion("failed", "steps.1: no MRN", "message.mrn")
        status, body, headers = await world.ask("POST", "/", data=b"1")
        assert (status, headers["content-type"]) == (422, "application/problem+json")
        assert json.loads(body) == {
            "status": 422,
            "detail": "the steps ended as failed: steps.1: no MRN; the message is kept",
            "message": "0000000000003",
            "location": "message.mrn",
        }
    async with serving(HttpSpec, answer={"from": "deliver.ehr", "status": 200}) as world:
        world.kept.concluded["ehr"] = Conclusion("delivered", response=b'{"id": 7}')
        assert (await world.ask("POST", "/", data=b"1"))[:2] == (200, b'{"id": 7}')
        world.kept.concluded["ehr"] = Conclusion("absent")
        assert (await world.ask("POST", "/", data=b"1"))[:2] == (204, b"")
        world.kept.concluded["ehr"] = Conclusion("dead", "HTTP 400 from ehr")
        status, body, _ = await world.ask("POST", "/", data=b"1")
        assert status == 502
        assert json.loads(body)["detail"].startswith("deliver.ehr: the delivery ended as dead: HTTP 400 from ehr")


@pytest.mark.parametrize(
    ("kind", "body", "expected"),
    [
        ("application/json", '{"id": "{{ reference }}", "said": {{ response }}}', b'{"id": "a\\"<b", "said": [1]}'),
        ("text/xml; charset=utf-8", "<r id='{{ reference }}'/>", b"<r id='a&quot;&lt;b'/>"),
        ("text/plain", "{{ reference }} {{ channel }}", b'a"<b web'),
    ],
)
async def test_what_came_back_stays_in_its_place(kind: str, body: str, expected: bytes) -> None:
    answer = {"from": "deliver.ehr", "status": 201, "body": body, "content_type": kind}
    async with serving(HttpSpec, answer=answer) as world:
        world.kept.concluded["ehr"] = Conclusion("delivered", reference='a"<b', response=b"[1]")
        status, told, headers = await world.ask("POST", "/", data=b"1")
        assert (status, told, headers["content-type"]) == (201, expected, kind)


async def test_who_hangs_up_before_the_answer_has_sent_all_the_same() -> None:
    async with serving(HttpSpec) as world:
        world.kept.delay = 0.2
        reader, writer = await asyncio.open_connection("127.0.0.1", world.listener.port)
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n1")
        await asyncio.sleep(0.05)
        writer.transport.abort()
        await asyncio.sleep(0.3)
        assert (world.kept.bodies, world.listener.connections) == ([b"1"], 0)
        reader, writer = await asyncio.open_connection("127.0.0.1", world.listener.port)
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n1")
        await asyncio.sleep(0.05)
        writer.transport.abort()  # half a body is no message
        del reader
        await asyncio.sleep(0.05)
        assert len(world.kept.messages) == 1
        assert not [notice for notice in world.kept.notices if isinstance(notice, Bug)]


async def test_requests_on_one_connection_are_answered_in_order() -> None:
    async with serving(HttpSpec) as world:
        one = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n"
        last = one.replace(b"Host: x", b"Host: x\r\nConnection: close")
        found = await world.raw(one + b"1" + one + b"2" + last + b"3", 5)
        assert found.count(b"HTTP/1.1 202 ") == 3
        assert [found.index(f'"000000000000{number}"'.encode()) for number in (1, 2, 3)] == sorted(
            found.index(f'"000000000000{number}"'.encode()) for number in (1, 2, 3)
        )
        assert world.kept.bodies == [b"1", b"2", b"3"]


def test_answers_that_cannot_be_are_refused() -> None:
    for wrong in ({"answer": {"from": "delivery"}}, {"answer": {"from": "steps"}, "takes": "file"}):
        with pytest.raises(ValueError, match=r"answer\.from"):
            HttpSpec.model_validate({"endpoint": "127.0.0.1:0", **wrong})


async def test_curl_sends_forms_and_files(need: Need, tmp_path: Path) -> None:
    """What curl makes of forms and uploads is taken as it was meant."""
    curl = need("curl")
    (tmp_path / "a.json").write_text('{"a": 1}')
    async with serving(HttpSpec, path="/in", methods=["POST", "PUT"]) as world:
        url, path = world.url("/in"), str(tmp_path / "a.json")
        for options in (["-F", f"report=@{path}", "-F", "note={}"], ["-T", path], ["--data-binary", f"@{path}"]):
            process = await asyncio.create_subprocess_exec(
                curl, "-sS", "-o", "/dev/null", "-w", "%{http_code}", *options, url, stdout=asyncio.subprocess.PIPE
            )
            assert (await process.communicate())[0] == b"202", options
        assert world.kept.bodies == [b'{"a": 1}', b"{}", b'{"a": 1}', b'{"a": 1}']


async def test_parts_of_a_form_are_messages_each() -> None:
    async with serving(HttpSpec) as world:
        body = (
            b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n{"a":1}\r\n'
            b'--x\r\nContent-Disposition: form-data; name="f"; filename="b.json"\r\n'
            b"Content-Type: application/json\r\n\r\n{\r\n}\r\n--x--\r\n"
        )
        kind = {"Content-Type": "multipart/form-data; boundary=x"}
        for duplicates in (0, 2):
            status, answer, _ = await world.ask("POST", "/", data=body, headers=kind | {"Idempotency-Key": "k"})
            assert (status, json.loads(answer)) == (202, {"messages": 2, "duplicates": duplicates})
        assert world.kept.bodies == [b'{"a":1}', b"{\r\n}"]
        for _ in range(2):  # without a key nothing is the same as something else
            _, answer, _ = await world.ask("POST", "/", data=body, headers=kind)
            assert json.loads(answer)["duplicates"] == 0
        bad = body.replace(b"{\r\n}", b"{")
        status, answer, _ = await world.ask("POST", "/", data=bad, headers=kind)
        told = json.loads(answer)
        assert (status, told["messages"], len(told["refused"])) == (422, 1, 1)
        assert told["refused"][0].startswith("b.json: ")
        for wrong in (body[:-6], b"--x", b"nothing"):
            assert (await world.ask("POST", "/", data=wrong, headers=kind))[0] == 400
        assert (await world.ask("POST", "/", data=body, headers={"Content-Type": "multipart/form-data"}))[0] == 400


async def test_files_are_taken_apart_and_known_again(monkeypatch: pytest.MonkeyPatch) -> None:
    form = CsvSpec.model_validate({}).build(None)
    monkeypatch.setattr(http_peer, "FORMATS", {"csv": form})
    async with serving(HttpSpec, "csv", path="/in", methods=["POST", "PUT"], takes="file") as world:
        data = b"id,name\n1,a\n2,b\n3\n"
        for duplicates in (0, 3):
            _, answer, _ = await world.ask("PUT", "/in/roster.csv", data=data)
            assert json.loads(answer)["duplicates"] == duplicates
        assert world.kept.messages[0].peer.endswith(" roster.csv:2")
        assert (await world.ask("PUT", "/in/x.csv", data=b"\xff\xfe\0\1zzz"))[0] == 422


BAD = [
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n1\r\na\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3, 3\r\n\r\nabc",
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +3\r\n\r\nabc",
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0x3\r\n\r\nabc",
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length : 3\r\n\r\nabc",
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\nabc",
    b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nX: a\r\n Content-Length: 3\r\n\r\nabc",
    b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1 \n a\n0\n\n",
    b"POST / HTTP/1.1\nHost: x\nContent-Length: 1\n\n1",
    b"POST / HTTP/1.1\r\nHost: x\r\nX: a\rb\r\nContent-Length: 1\r\n\r\n1",
    b"POST / HTTP/1.1\r\nHost: x\r\nX: a\0b\r\nContent-Length: 1\r\n\r\n1",
    b"POST / HTTP/1.1\r\nHost: x\r\nHost: y\r\nContent-Length: 1\r\n\r\n1",
    b"POST / HTTP/1.1\r\nno header\r\nContent-Length: 1\r\n\r\n1",
    b"POST /\r\n\r\n",
    b"POST / HTTP/9.9\r\nContent-Length: 1\r\n\r\n1",
    b"POST / HTTP/1.1 x\r\nContent-Length: 1\r\n\r\n1",
    b"PO ST / HTTP/1.1\r\nContent-Length: 1\r\n\r\n1",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"\x0bMSH|^~\\&|A|B\r\x1c\r",
    b"GET http://[ HTTP/1.1\r\n\r\n",
]


@pytest.mark.parametrize("data", BAD)
async def test_a_request_of_two_meanings_is_refused_and_the_connection_closed(data: bytes) -> None:
    async with serving(HttpSpec) as world:
        found = await world.raw(data + b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 7\r\n\r\nsmuggle")
        assert found.startswith(b"HTTP/1.1 400 ")
        assert found.count(b"HTTP/1.1 ") == 1
        assert b"Traceback" not in found
        assert not world.kept.messages
        assert not [notice for notice in world.kept.notices if isinstance(notice, Bug)]


async def test_size_and_time_of_requests_are_bounded() -> None:
    async with serving(HttpSpec, max_body="1KiB", head_deadline="0.3s", body_deadline="0.3s") as world:
        assert (await world.ask("POST", "/", data=b"1" * 1025))[0] == 413
        assert (await world.ask("POST", "/", data=chunks(b"1" * 1025)))[0] == 413
        large = b"POST / HTTP/1.1\r\nX: " + b"x" * 70_000
        assert (await world.raw(large)).startswith(b"HTTP/1.1 431 ")
        many = b"POST / HTTP/1.1\r\n" + b"X: y\r\n" * 200 + b"Content-Length: 1\r\n\r\n1"
        assert (await world.raw(many, 0.5)).startswith(b"HTTP/1.1 431 ")
        assert (await world.raw(b"POST / HTTP/1.1\r\nX: ")).startswith(b"HTTP/1.1 408 ")
        assert (await world.raw(b"")).startswith(b"HTTP/1.1 408 ")
        slow = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n12"
        assert (await world.raw(slow)).startswith(b"HTTP/1.1 408 ")
        extended = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1;" + b"x" * 90_000
        assert (await world.raw(extended)).startswith((b"HTTP/1.1 413 ", b"HTTP/1.1 400 "))
        assert not world.kept.messages
        assert (await world.ask("POST", "/", data=b"1"))[0] == 202


async def chunks(data: bytes) -> Any:
    for start in range(0, len(data), 100):
        yield data[start : start + 100]


async def test_a_stop_answers_what_was_begun() -> None:
    async with serving(HttpSpec) as world:
        world.kept.delay = 0.3
        asking = asyncio.create_task(world.ask("POST", "/", data=b"1"))
        await asyncio.sleep(0.1)
        await world.listener.stop()
        assert (await asking)[0] == 202
        assert world.listener.endpoints == ()


async def test_connections_and_pace_are_bounded() -> None:
    async with serving(HttpSpec, connections=1, rate=2.0) as world:
        reader, writer = await asyncio.open_connection("127.0.0.1", world.listener.port)
        await asyncio.sleep(0.05)
        assert await world.raw(b"GET / HTTP/1.1\r\n\r\n") == b""
        writer.close()
        del reader
        await asyncio.sleep(0.05)
        found = [(await world.ask("POST", "/", data=b"1"))[0] for _ in range(6)]
        assert found[:2] == [202, 202]
        assert found[-1] == 429
    async with serving(HttpSpec, allow=["192.0.2.0/24"]) as world:
        assert (await world.ask("POST", "/", data=b"1"))[0] == 403


async def test_channels_share_a_port_by_their_paths(unused_tcp_port: int) -> None:
    endpoint = f"127.0.0.1:{unused_tcp_port}"
    async with serving(HttpSpec, path="/a", endpoint=endpoint) as first:
        async with serving(HttpSpec, path="/b", endpoint=endpoint) as second:
            assert (await first.ask("POST", "/a", data=b"1"))[0] == 202
            assert (await first.ask("POST", "/b", data=b"2"))[0] == 202
            assert (first.kept.bodies, second.kept.bodies) == ([b"1"], [b"2"])
            with pytest.raises(NotReady, match="serves /a there already"):
                await World(HttpSpec, "json", {}, Path(), path="/a", endpoint=endpoint).listener.start()
            with pytest.raises(NotReady, match="says otherwise"):
                await World(HttpSpec, "json", {}, Path(), path="/c", endpoint=endpoint, idle="9s").listener.start()
        assert (await first.ask("POST", "/b", data=b"2"))[0] == 404
        assert (await first.ask("POST", "/a", data=b"1"))[0] == 202


async def test_a_flood_of_large_bodies_stays_within_memory() -> None:
    async with serving(HttpSpec, body_deadline="4s") as world:
        head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 16000000\r\n\r\n"
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        found = await asyncio.gather(*(world.raw(head + b"x" * 15_900_000, 60) for _ in range(10)))
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        told = [answer[9:12] for answer in found if answer]
        assert b"503" in told
        assert set(told) <= {b"503", b"408"}
        assert grown < 500, grown  # most of it is what this test sends
        assert (await world.ask("POST", "/", data=b"1"))[0] == 202
