"""Rows that go out together have an outcome each, whatever form the vendor gives its list of answers."""

import csv
import email
import io
from email.message import Message
from typing import Any

import pytest

from broker.delivery import Delivered, Outcome, Rejected, Retry, Unknown
from dispatch.web import bulk
from tests.contract.scripted_server import Behaviour, hang_up, reply
from tests.contract.systems import (
    PRESETS,
    Asked,
    VendorServer,
    destination,
    event_of,
    render,
    said,
    send,
    spec,
)


@pytest.fixture
async def server() -> Any:
    made = VendorServer()
    await made.start()
    yield made
    await made.stop()


def rows_of(asked: Asked) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = asked.body["records"]
    return found


class Accounts:
    """Salesforce's collections: upserts by external id, 200 whatever becomes of rows, and a row may be refused."""

    def __init__(self) -> None:
        self.made: dict[str, int] = {}  # by external id: how often it was created
        self.refuse: dict[str, str] = {}

    def __call__(self, asked: Asked) -> Behaviour:
        return said(200, [self._row(row) for row in rows_of(asked)])

    def _row(self, row: dict[str, Any]) -> dict[str, Any]:
        key = row["MRN__c"]
        if key in self.refuse:
            return {"success": False, "errors": [{"statusCode": self.refuse[key], "message": "no", "fields": []}]}
        created = key not in self.made
        self.made.setdefault(key, 1)
        return {"id": f"001{key[-2:]}", "success": True, "created": created, "errors": []}


async def test_each_row_of_a_list_has_its_own_outcome(server: VendorServer) -> None:
    accounts = Accounts()
    accounts.refuse = {"MERCY|02": "UNABLE_TO_LOCK_ROW", "MERCY|03": "STRING_TOO_LONG"}
    server.answers = accounts
    declared = spec("salesforce", "upsert_patients")
    requests = [render(declared, event_of(mrn)) for mrn in ("01", "02", "03", "04")]
    outcomes = await send(declared, server, requests)
    assert [type(outcome) for outcome in outcomes] == [Delivered, Retry, Rejected, Delivered]
    assert [getattr(outcome, "reference", "") for outcome in outcomes] == ["00101", "", "", "00104"]
    assert len(server.asked) == 1


async def test_rows_go_out_in_requests_of_the_size_that_the_other_side_takes(server: VendorServer) -> None:
    server.answers = Accounts()
    declared = spec("salesforce", "upsert_patients")
    outcomes = await send(declared, server, [render(declared, event_of(f"{number:03}")) for number in range(450)])
    assert [len(rows_of(asked)) for asked in server.asked] == [200, 200, 50]
    assert all(isinstance(outcome, Delivered) for outcome in outcomes)
    assert destination(declared, server.base).batch == 200
    assert destination(spec("salesforce", "upsert_patients", batch_size=25), server.base).batch == 25


async def test_rows_for_different_places_do_not_share_a_request(server: VendorServer) -> None:
    server.answers = lambda asked: said(
        200, [{"id": asked.path[-6:], "success": True, "errors": []}] * len(rows_of(asked))
    )
    declared = spec("salesforce", "upsert_patients", {"object": "{{ patient.mrn.value }}"})
    outcomes = await send(declared, server, [render(declared, event_of(mrn)) for mrn in ("Aa", "Bb", "Aa")])
    assert [asked.path.split("/")[2] for asked in server.asked] == ["Aa", "Bb"]
    assert [len(rows_of(asked)) for asked in server.asked] == [2, 1]
    assert all(isinstance(outcome, Delivered) for outcome in outcomes)


async def test_row_that_makes_the_other_side_refuse_all_is_found(server: VendorServer) -> None:
    """One bad row and HubSpot answers 400 for the hundred; nothing of them was done, so halves are tried."""

    def answers(asked: Asked) -> Behaviour:
        rows = asked.body["inputs"]
        if any(row["id"] == "MERCY|05" for row in rows):
            return said(400, {"status": "error", "category": "VALIDATION_ERROR", "message": "Property x of 05"})
        return said(
            200, {"results": [{"id": row["id"], "objectWriteTraceId": row["objectWriteTraceId"]} for row in rows]}
        )

    server.answers = answers
    declared = spec("hubspot", "upsert_patients")
    outcomes = await send(declared, server, [render(declared, event_of(f"{number:02}")) for number in range(16)])
    kinds = [type(outcome) for outcome in outcomes]
    assert kinds == [Rejected if number == 5 else Delivered for number in range(16)]
    assert len(server.asked) == 9  # 16, 8, 8, 4, 4, 2, 2, 1, 1


async def test_rows_are_told_apart_by_their_key_where_the_answer_has_another_order(server: VendorServer) -> None:
    def answers(asked: Asked) -> Behaviour:
        rows = list(reversed(asked.body["inputs"]))
        failed = [row for row in rows if row["id"] == "MERCY|01"]
        done = [
            {"id": f"h{row['id'][-1]}", "objectWriteTraceId": row["objectWriteTraceId"]}
            for row in rows
            if row not in failed
        ]
        errors = [{"category": "CONFLICT", "context": {"ids": [row["id"]]}} for row in failed]
        return said(207, {"results": done[:1], "errors": errors})

    server.answers = answers
    declared = spec("hubspot", "upsert_patients")
    outcomes = await send(declared, server, [render(declared, event_of(mrn)) for mrn in ("00", "01", "02")])
    assert [type(outcome) for outcome in outcomes] == [Unknown, Rejected, Delivered]
    assert outcomes[2] == Delivered(reference="h2", response=outcomes[2].response)


async def test_rows_that_iterable_lists_as_failed_are_refused_and_the_others_delivered(server: VendorServer) -> None:
    failed = {"forgottenUserIds": ["MERCY|01"], "invalidEmails": []}
    server.answers = lambda _: said(200, {"successCount": 2, "failCount": 1, "failedUpdates": failed})
    declared = spec("iterable", "upsert_patients")
    outcomes = await send(
        declared, server, [render(declared, event_of(mrn)) for mrn in ("00", "01", "02")], **api_key("Api-Key")
    )
    assert [type(outcome) for outcome in outcomes] == [Delivered, Rejected, Delivered]
    assert "forgottenUserIds" in getattr(outcomes[1], "reason", "")
    assert server.asked[0].headers["api-key"] == "s3cret"


def api_key(header: str) -> dict[str, Any]:
    return {"auth": {"api_key": {"header": header, "secret": "${env:S}"}}}


async def test_all_rows_are_unknown_when_the_answer_never_comes(server: VendorServer) -> None:
    server.answers = lambda _: hang_up
    declared = spec("salesforce", "upsert_patients")
    outcomes = await send(declared, server, [render(declared, event_of(mrn)) for mrn in ("00", "01")])
    assert [type(outcome) for outcome in outcomes] == [Unknown, Unknown]


# $batch of OData


def parts_of(asked: Asked) -> list[tuple[str, str, bytes]]:
    """Take a $batch apart with Python's own reader of multipart bodies: method, target and body of each request."""
    head = f"Content-Type: {asked.headers['content-type']}\r\n\r\n".encode()
    whole = email.message_from_bytes(head + asked.raw)
    assert whole.is_multipart()
    found = []
    for part in whole.get_payload():
        assert isinstance(part, Message)
        assert part.get_content_type() == "application/http"
        top, _, body = part.get_payload(decode=True).partition(b"\r\n\r\n")  # type: ignore[union-attr]
        method, target, _ = top.decode().split("\r\n")[0].split(" ")
        found.append((method, target, body.rstrip(b"\r\n")))
    return found


def batch_answer(*answers: tuple[int, bytes, str]) -> Behaviour:
    lines = []
    for status, body, extra in answers:
        lines.append(
            f"--r1\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\n"
            f"HTTP/1.1 {status} X\r\nOData-Version: 4.0\r\n{extra}\r\n".encode()
            + body
            + b"\r\n"
        )
    return reply(200, b"".join(lines) + b"--r1--\r\n", Content_Type='multipart/mixed; boundary="r1"')


async def test_requests_of_a_batch_have_an_outcome_each(server: VendorServer) -> None:
    server.answers = lambda _: batch_answer(
        (204, b"", "OData-EntityId: https://x/contacts(1)\r\n"),
        (429, b'{"error":{"code":"0x80072322","message":"O\'Hara"}}', "Retry-After: 9\r\n"),
        (400, b'{"error":{"code":"0x80060891","message":"O\'Hara"}}', "Content-Type: application/json\r\n"),
    )
    declared = spec("dynamics-365", "upsert_patients")
    requests = [render(declared, event_of(mrn)) for mrn in ("00", "01", "02", "03")]
    outcomes = await send(declared, server, requests)
    assert [type(outcome) for outcome in outcomes] == [Delivered, Retry, Rejected, Unknown]
    assert outcomes[0] == Delivered(reference="https://x/contacts(1)", response=outcomes[0].response)
    assert getattr(outcomes[1], "after", None) == 9.0
    (asked,) = server.asked
    assert (asked.method, asked.path) == ("POST", "$batch")
    assert asked.headers["content-type"].startswith("multipart/mixed; boundary=batch_")
    assert asked.headers["prefer"] == "odata.continue-on-error"
    parts = parts_of(asked)
    assert [(method, target) for method, target, _ in parts] == [
        ("PATCH", f"/api/contacts(new_mrn='MERCY%7C{mrn}')") for mrn in ("00", "01", "02", "03")
    ]
    assert all(b'"lastname":"O\'Hara"' in body for _, _, body in parts)


@pytest.mark.parametrize(
    "answer",
    [
        reply(200, b"", Content_Type="multipart/mixed; boundary=r1"),
        reply(
            200, b"--r1\r\nContent-Type: application/http\r\n\r\nnonsense", Content_Type="multipart/mixed; boundary=r1"
        ),
        reply(200, b"<html>", Content_Type="text/html"),
    ],
)
async def test_batch_is_unknown_when_its_answer_cannot_be_read(server: VendorServer, answer: Behaviour) -> None:
    server.answers = lambda _: answer
    declared = spec("dynamics-365", "upsert_patients")
    outcomes = await send(declared, server, [render(declared, event_of(mrn)) for mrn in ("00", "01")])
    assert [type(outcome) for outcome in outcomes] == [Unknown, Unknown]


async def test_batch_is_retried_when_it_is_turned_away_as_a_whole(server: VendorServer) -> None:
    server.answers = lambda _: said(429, {"error": {"code": "0x80072326"}}, Retry_After="4")
    declared = spec("dynamics-365", "upsert_patients")
    outcomes = await send(declared, server, [render(declared, event_of(mrn)) for mrn in ("00", "01")])
    assert [getattr(outcome, "after", None) for outcome in outcomes] == [4.0, 4.0]


# Jobs of the Bulk API


class Jobs:
    """Salesforce's Bulk API 2.0: nothing happens before a job is closed; results are CSV, in an order of their own."""

    def __init__(self) -> None:
        self.csv = ""
        self.closed = False
        self.looks = 0
        self.on: dict[str, Behaviour] = {}  # what a step is answered with instead

    def __call__(self, asked: Asked) -> Behaviour:
        step = f"{asked.method} {asked.path.removeprefix('jobs/ingest').removeprefix('/750x').strip('/')}".strip()
        if step in self.on:
            return self.on[step]
        return {"POST": self._make, "PUT batches": self._upload, "PATCH": self._close, "GET": self._look}.get(
            step, self._results
        )(asked)

    def _make(self, asked: Asked) -> Behaviour:
        assert asked.body == {
            "object": "Account",
            "operation": "upsert",
            "externalIdFieldName": "MRN__c",
            "contentType": "CSV",
            "lineEnding": "LF",
        }
        return said(200, {"id": "750x", "state": "Open", "contentUrl": "services/data/v67.0/jobs/ingest/750x/batches"})

    def _upload(self, asked: Asked) -> Behaviour:
        assert asked.headers["content-type"] == "text/csv"
        self.csv = asked.raw.decode()
        return reply(201)

    def _close(self, asked: Asked) -> Behaviour:
        assert asked.body == {"state": "UploadComplete"}
        self.closed = True
        return said(200, {"id": "750x", "state": "UploadComplete"})

    def _look(self, _: Asked) -> Behaviour:
        self.looks += 1
        return said(200, {"id": "750x", "state": "InProgress" if self.looks < 3 else "JobComplete"})

    def _results(self, asked: Asked) -> Behaviour:
        lines = list(csv.DictReader(io.StringIO(self.csv)))
        if asked.path.endswith("failedResults"):
            errors = {"MERCY|01": "UNABLE_TO_LOCK_ROW:O'Hara:--", "MERCY|02": "STRING_TOO_LONG:O'Hara:LastName --"}
            text = "".join(f'"","{error}","{key}"\n' for key, error in errors.items())
            return reply(200, f'"sf__Id","sf__Error","MRN__c"\n{text}'.encode(), Content_Type="text/csv")
        done = [line["MRN__c"] for line in reversed(lines) if line["MRN__c"][-2:] not in {"01", "02", "04"}]
        text = "".join(f'"001{key[-2:]}","true","{key}"\n' for key in done)
        return reply(200, f'"sf__Id","sf__Created","MRN__c"\n{text}'.encode(), Content_Type="text/csv")


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "FIRST_LOOK", 0.01)


async def load_five(server: VendorServer) -> list[Outcome]:
    declared = spec("salesforce", "load_patients")
    requests = [render(declared, event_of(mrn)) for mrn in ("00", "01", "02", "03", "04")]
    assert destination(declared, server.base).batch == 2000
    return await send(declared, server, requests)


@pytest.mark.usefixtures("at_once")
async def test_rows_of_a_job_have_an_outcome_each(server: VendorServer) -> None:
    jobs = server.answers = Jobs()
    outcomes = await load_five(server)
    assert [type(outcome) for outcome in outcomes] == [Delivered, Retry, Rejected, Delivered, Unknown]
    assert [getattr(outcome, "reference", "") for outcome in outcomes] == ["00100", "", "", "00103", ""]
    assert "STRING_TOO_LONG" in getattr(outcomes[2], "reason", "")
    assert "O'Hara" not in repr(outcomes)
    first, *lines = jobs.csv.splitlines()
    assert first.startswith("MRN__c,LastName,FirstName,PersonBirthdate")
    assert lines[0].startswith('MERCY|00,O\'Hara,Ngozi,1962-09-10,+12025550123,ngozi@example.org,"12 Main St, Apt 3"')
    assert (len(lines), jobs.looks) == (5, 3)


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize(
    ("step", "answer", "kind", "closed"),
    [
        ("POST", hang_up, Retry, False),
        ("POST", said(200, {"state": "Open"}), Retry, False),
        ("POST", said(400, [{"errorCode": "INVALIDJOB", "message": "x"}]), Rejected, False),
        ("PUT batches", hang_up, Retry, False),
        ("PUT batches", said(500), Retry, False),
        ("PATCH", hang_up, Unknown, False),
        ("PATCH", said(503), Retry, False),
        ("GET", said(200, {"state": "Aborted"}), None, True),
        ("GET failedResults", said(500), None, True),
    ],
)
async def test_job_that_breaks_off_before_it_begins_is_tried_again(
    server: VendorServer, step: str, answer: Behaviour, kind: type[object] | None, closed: object
) -> None:
    jobs = server.answers = Jobs()
    jobs.on = {step: answer}
    outcomes = await load_five(server)
    assert jobs.closed is closed
    if kind is not None:
        assert {type(outcome) for outcome in outcomes} == {kind}
    else:  # what was done is told all the same, and nobody knows of the rest
        assert isinstance(outcomes[0], Delivered)
        assert isinstance(outcomes[4], Unknown)


async def test_job_that_takes_too_long_is_unknown(server: VendorServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "FIRST_LOOK", 0.02)
    preset = PRESETS["salesforce"]
    operation = preset.operations["load_patients"]
    assert operation.batch is not None
    hasty = operation.model_copy(update={"batch": operation.batch.model_copy(update={"patience": 0.03})})
    monkeypatch.setitem(PRESETS, "salesforce", preset.model_copy(update={"operations": {"load_patients": hasty}}))
    jobs = server.answers = Jobs()
    jobs.on = {"GET": said(200, {"state": "InProgress"})}
    outcomes = await load_five(server)
    assert {type(outcome) for outcome in outcomes} == {Unknown}


def test_csv_of_a_job_has_a_column_for_each_field_and_quotes_what_needs_it() -> None:
    rows = [b'{"A":"x,y\\n\\"z\\"","B":null}', b'{"A":true,"C":{"D":1.5}}']
    assert list(csv.reader(io.StringIO(bulk.written(rows).decode(), newline=""))) == [
        ["A", "B", "C.D"],
        ['x,y\n"z"', "#N/A", ""],
        ["true", "", "1.5"],
    ]
