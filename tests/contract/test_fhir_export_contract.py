"""This module shows that what a FHIR server exports in bulk becomes messages once each, whatever goes wrong."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import orjson
import pytest
from aiohttp import web

from broker.errors import Away, NotAccepted, NotReady
from broker.notices import FileFailed, FileRead
from broker.notices_polls import ExportIncomplete, ExportProgressed, ExportRead, PollFailed, PollRecovered
from broker.retry import RetryPolicy
from dispatch.signing import make_key
from listeners.fhir_export import FhirExportListener, FhirExportSpec
from listeners.fhir_job import JobFailed, Progress
from tests.contract.asking import spec
from tests.contract.fhir_rig import build, listening, names
from tests.contract.poll_rig import Kept, Remembered, until
from tests.contract.token_server import CLIENT, TokenServer
from tests.fhir_exporter import Exporter, patient

Answering = Callable[[], web.Response]
DAILY: Final[dict[str, Any]] = {"schedule": {"every": "24h"}}


@pytest.fixture
async def exporter() -> AsyncIterator[Exporter]:
    """A server whose exports have five patients in two files."""
    exporter = Exporter()
    exporter.files = {
        "a": [patient("p0"), patient("p1"), patient("p2")],
        "b": [patient("p3"), {"resourceType": "Patient", "id": "p4"}],
    }
    await exporter.start()
    yield exporter
    await exporter.stop()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing wait long until it is tried again."""
    for module in ("polling", "file_reading"):
        monkeypatch.setattr(f"listeners.{module}._AGAIN", 0.02)
    monkeypatch.setattr("listeners.polling._BACKOFF", RetryPolicy(attempts=0, first=0.01, max=0.05))


def exporting(
    exporter: Exporter, kept: Kept, data: Path, marks: Remembered | None = None, **given: Any
) -> FhirExportListener:
    listener = build(FhirExportSpec, exporter.base, kept, marks or Remembered(), data, **given)
    assert isinstance(listener, FhirExportListener)
    return listener


@asynccontextmanager
async def opened(
    exporter: Exporter, kept: Kept, data: Path, marks: Remembered | None = None, **given: Any
) -> AsyncIterator[FhirExportListener]:
    """Get ready to export, without a clock; when is up to the test."""
    listener = exporting(exporter, kept, data, marks, **given)
    listener._notes.open()
    await listener._source.open()
    await listener._recall()
    try:
        yield listener
    finally:
        await listener._source.close()


async def reason(listener: FhirExportListener, kind: type[Exception] = Away) -> str:
    """Export, and return why that could not be."""
    with pytest.raises(kind) as caught:
        await listener._export()
    assert type(caught.value) is kind
    assert "signed" not in str(caught.value)
    return str(caught.value)


FIVE = ["p0", "p1", "p2", "p3", "p4"]


async def test_export_is_taken_once_and_the_next_asks_for_what_came_later(exporter: Exporter, tmp_path: Path) -> None:
    kept, marks = Kept(), Remembered()
    given: dict[str, Any] = {"group": "g-1", "types": ["Patient", "Encounter"], "since": "2026-01-01T00:00:00Z"}
    async with opened(exporter, kept, tmp_path, marks, **given) as listener:
        await listener._export()
        assert names(kept) == FIVE
        assert exporter.removed == ["j0"]
        exporter.files = {"c": [patient("p3"), patient("p1", "2")]}
        await listener._export()
    assert names(kept) == [*FIVE, "p1"]
    first, second = [request for request in exporter.asked if "$export" in request.path]
    assert first.path == "/fhir/Group/g-1/$export"
    assert dict(first.query) == {"_type": "Patient,Encounter", "_since": "2026-01-01T00:00:00+00:00"}
    assert second.query["_since"] == "2026-03-19T14:15:00+00:00"
    assert [notice.files for notice in kept.told(ExportRead)] == [2, 1]
    assert [(notice.messages, notice.duplicates) for notice in kept.told(FileRead)] == [(3, 0), (2, 0), (2, 1)]
    assert not listener._notes.position(next(iter(kept.messages.values())).peer.partition(":")[0])


async def test_message_is_the_line_as_it_was_sent(exporter: Exporter, tmp_path: Path) -> None:
    exporter.files = {"a": [{**patient("é"), "multipleBirthInteger": 2}]}
    kept = Kept()
    async with opened(exporter, kept, tmp_path, level="system", parameters={"_typeFilter": "Patient?x=1"}) as listener:
        await listener._export()
    [message] = kept.messages.values()
    assert message.body == (
        b'{"resourceType": "Patient", "id": "\\u00e9", "meta": {"versionId": "1"}, "multipleBirthInteger": 2}'
    )
    assert message.peer.startswith("Patient-")
    assert message.peer.endswith(".ndjson:1")
    assert exporter.asked[0].path == "/fhir/$export"
    assert dict(exporter.asked[0].query) == {"_typeFilter": "Patient?x=1"}


async def test_job_is_asked_when_the_server_wants_to_be(exporter: Exporter, tmp_path: Path) -> None:
    exporter.rounds = 2
    kept = Kept()
    began = time.monotonic()
    async with listening(exporting(exporter, kept, tmp_path, **DAILY)) as listener:
        assert (listener.endpoints, listener.connections) == (("server ehr",), 0)
        await until(lambda: bool(kept.told(ExportRead)))
    assert 1.8 < time.monotonic() - began < 15
    assert exporter.paths("/jobs/")[:3] == ["/jobs/j0"] * 3
    assert [notice.percent for notice in kept.told(ExportProgressed)] == [50, 50]
    assert not listener.endpoints
    await listener.stop()
    assert "Okafor" not in str(kept.notices)


async def test_another_start_goes_on_with_the_job_and_its_files(exporter: Exporter, tmp_path: Path) -> None:
    exporter.refuses = {"/files/b": [lambda: web.Response(status=503, headers={"Retry-After": "7"})]}
    kept, marks = Kept(), Remembered()
    async with opened(exporter, kept, tmp_path, marks) as listener:
        assert "cannot be fetched: HTTP 503" in await reason(listener)
    async with opened(exporter, kept, tmp_path, marks) as listener:
        await listener._export()
    assert (names(kept), kept.tries) == (FIVE, 5)
    assert (exporter.paths("$export"), exporter.paths("files")) == (
        ["/fhir/Patient/$export"],
        ["/files/a", "/files/b", "/files/b"],
    )


async def test_stop_while_the_job_runs_leaves_it_running(exporter: Exporter, tmp_path: Path) -> None:
    exporter.rounds, exporter.waits = 1, "60"
    kept, marks = Kept(), Remembered()
    async with listening(exporting(exporter, kept, tmp_path, marks, **DAILY)):
        await until(lambda: bool(exporter.paths("/jobs/")))
    async with listening(exporting(exporter, kept, tmp_path, marks, **DAILY)):
        await until(lambda: bool(kept.told(ExportRead)))
    assert (len(exporter.paths("$export")), names(kept)) == (1, FIVE)


async def test_start_makes_up_for_no_export_that_an_earlier_one_has_read(exporter: Exporter, tmp_path: Path) -> None:
    kept, marks = Kept(), Remembered()
    async with listening(exporting(exporter, kept, tmp_path, marks, **DAILY)):
        await until(lambda: bool(exporter.removed))
    async with opened(exporter, kept, tmp_path, marks, **DAILY) as listener:
        await listener._poll()
    assert exporter.begun == 1
    async with opened(exporter, kept, tmp_path, marks, **DAILY) as listener:
        listener._progress = replace(listener._progress, began=time.time() - 86_401)
        await listener._poll()
    assert exporter.begun == 2


@pytest.mark.parametrize(
    ("place", "answer", "told"),
    [
        ("/jobs/j0", lambda: web.Response(status=404), "the export failed: HTTP 404"),
        ("/jobs/j0", lambda: web.Response(status=500), "the export failed: HTTP 500"),
        ("/files/b", lambda: web.Response(status=410), "is gone"),
        ("/jobs/j0", lambda: web.Response(text="["), "not JSON"),
        ("/jobs/j0", lambda: web.json_response({}), "no `output`"),
        ("/jobs/j0", lambda: web.json_response({"output": []}), "no `transactionTime`"),
        ("$export", lambda: web.Response(status=202), "no Content-Location"),
        ("$export", lambda: web.Response(status=202, headers={"Content-Location": "http://127.0.0.1:1/"}), "our token"),
    ],
)  # fmt: skip
async def test_job_that_comes_to_nothing_is_begun_anew(
    place: str, answer: Answering, told: str, exporter: Exporter, tmp_path: Path
) -> None:
    exporter.refuses = {place: [answer]}
    kept, marks = Kept(), Remembered()
    async with opened(exporter, kept, tmp_path, marks) as listener:
        with pytest.raises(JobFailed, match=told) as caught:
            await listener._export()
        assert caught.value.after == 600
        await listener._export()
    assert names(kept) == FIVE
    assert len(exporter.paths("$export")) == 2
    if place != "$export":
        assert exporter.removed == ["j0", "j1"]


@pytest.mark.parametrize(
    ("place", "answer", "told"),
    [
        ("$export", lambda: web.Response(status=429, headers={"Retry-After": "120"}), "HTTP 429"),
        ("/jobs/j0", lambda: web.Response(status=429, headers={"Retry-After": "120"}), "HTTP 429"),
        ("/jobs/j0", lambda: web.Response(status=401, headers={"Retry-After": "120"}), "mend its entry"),
        ("/jobs/j0", lambda: web.json_response(
            {"resourceType": "OperationOutcome", "issue": [{"code": "transient"}]}, status=500,
            headers={"Retry-After": "120"}), "transient"),
    ],
)  # fmt: skip
async def test_server_that_wants_time_is_asked_again_for_the_same(
    place: str, answer: Answering, told: str, exporter: Exporter, tmp_path: Path
) -> None:
    exporter.refuses = {place: [answer]}
    kept = Kept()
    async with opened(exporter, kept, tmp_path) as listener:
        with pytest.raises(Away, match=told) as caught:
            await listener._export()
        assert (type(caught.value), caught.value.after) == (Away, 120)
        await listener._export()
    assert (names(kept), exporter.removed) == (FIVE, ["j0"])


async def test_job_without_end_is_given_up(exporter: Exporter, tmp_path: Path) -> None:
    exporter.rounds = 1000
    kept, marks = Kept(), Remembered()
    async with opened(exporter, kept, tmp_path, marks, duration="500ms") as listener:
        assert "longer than `duration`" in await reason(listener, JobFailed)
        exporter.rounds = 0
        await listener._export()
    assert (names(kept), exporter.removed) == (FIVE, ["j0", "j1"])


async def test_server_that_is_away_is_told_once_and_once_when_it_is_back(exporter: Exporter, tmp_path: Path) -> None:
    kept = Kept()
    exporter.refuses = {"$export": [lambda: web.Response(status=503)] * 2}
    async with listening(exporting(exporter, kept, tmp_path)):
        await until(lambda: bool(kept.told(ExportRead)))
    assert [len(kept.told(kind)) for kind in (PollFailed, PollRecovered)] == [1, 1]


# ------------------------------------------------------------------------------------------------ who gets our token


async def test_token_is_for_the_server_alone(
    exporter: Exporter, tokens: TokenServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = make_key("ES384")
    monkeypatch.setenv("KEY", key.pem())
    tokens.jwks = {"keys": [key.public_jwk()]}
    smart = {"client_id": CLIENT, "scope": "system/*.rs", "token_url": tokens.url, "private_key": "${env:KEY}"}
    settings = {"auth": spec(smart=smart), "headers": {"X-Key": "s3cret"}}
    other = Exporter(files=exporter.files)
    await other.start()
    kept = Kept()
    try:
        async with opened(exporter, kept, tmp_path, settings=settings) as listener:
            for exporter.needs_token in (None, True, False):
                await listener._export()
            exporter.needs_token, exporter.elsewhere = True, other.root
            await listener._export()
    finally:
        await other.stop()
    assert names(kept) == FIVE
    shown = [request.headers.get("Authorization") for request in exporter.asked if "files" in request.path]
    assert shown == ["Bearer token-1"] * 4 + [None] * 2
    assert {request.headers.get("Authorization") for request in exporter.asked if "files" not in request.path} == {
        "Bearer token-1"
    }
    assert other.paths("") == ["/files/a", "/files/b"]
    assert not [request for request in other.asked if {"Authorization", "X-Key"} & {*request.headers}]


async def test_file_without_tls_is_not_fetched_from_a_server_that_has_it(exporter: Exporter, tmp_path: Path) -> None:
    async with opened(exporter, Kept(), tmp_path) as listener:
        secure = "https://127.0.0.1/fhir"
        jobs = listener._jobs
        job = await jobs.begin("")
        listener._source.base = secure  # type: ignore[misc]  # as if it had TLS
        listener._progress = Progress(job=job, began=time.time())
        assert "without TLS" in await reason(listener, JobFailed)
    assert not exporter.paths("files")


# -------------------------------------------------------------------------------------------------- what is not whole


async def test_errors_of_the_server_keep_the_next_export_whole(exporter: Exporter, tmp_path: Path) -> None:
    note = {"resourceType": "OperationOutcome", "issue": [{"severity": "information", "code": "informational"}]}
    wrong = {"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": "processing"}]}
    exporter.errors = {"n": [note], "w": [note, wrong]}
    kept = Kept()
    async with opened(exporter, kept, tmp_path) as listener:
        await listener._export()
        [told] = kept.told(ExportIncomplete)
        assert told.reason == "the server could not export everything (processing)"
        assert [orjson.loads(line) for line in kept.quarantined[0].splitlines()] == [note, wrong]
        exporter.errors = {"n": [note]}
        await listener._export()
        await listener._export()
    exports = [request.query.get("_since") for request in exporter.asked if "$export" in request.path]
    assert exports == [None, None, "2026-03-20T14:15:00+00:00"]
    assert (names(kept), exporter.removed) == (FIVE, ["j0", "j1", "j2"])


async def test_lines_that_are_refused_are_kept_and_those_that_cannot_be_read_come_again(
    exporter: Exporter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, marks = Kept(), Remembered()
    kept.refusals = [NotAccepted("no", code="AR", condition=102)]
    async with opened(exporter, kept, tmp_path, marks) as listener:
        await listener._export()
        assert names(kept) == FIVE[1:]
        assert [orjson.loads(body)["id"] for body in kept.quarantined] == ["p0"]
        assert len(kept.told(FileFailed)) == 1
        assert not kept.told(ExportIncomplete)
        since = listener._progress.since
        monkeypatch.setattr("listeners.file_reading._KEPT", 0)
        kept.refusals = [NotAccepted("no", code="AR", condition=102)]
        await listener._export()
        assert listener._progress.since == since
    assert "1 of its messages" in kept.told(ExportIncomplete)[0].reason


async def test_files_of_every_kind(exporter: Exporter, tmp_path: Path) -> None:
    gone = {"request": {"method": "DELETE", "url": "Patient/p9"}}
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": [gone]}
    exporter.files["empty"] = []
    exporter.deleted = {"d": [bundle]}
    kept = Kept()
    async with opened(exporter, kept, tmp_path) as listener:
        await listener._export()
    assert names(kept) == FIVE
    async with opened(exporter, kept, tmp_path, deletions=True) as listener:
        await listener._export()
    assert orjson.loads([*kept.messages.values()][-1].body) == bundle
    async with opened(exporter, kept, tmp_path, largest="1KiB") as listener:
        exporter.files = {"large": [patient("p", text={"div": "x" * 2000})]}
        assert "more than 1024 bytes" in await reason(listener)


async def test_disk_that_is_full_or_away_is_told(
    exporter: Exporter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(**_: Any) -> Any:
        return open("/dev/full", "wb", buffering=0)  # noqa: PTH123 - it is a device

    async with opened(exporter, Kept(), tmp_path) as listener:
        with monkeypatch.context() as patched:
            patched.setattr("listeners.fhir_export.tempfile.TemporaryFile", full)
            assert "no space left on device" in await reason(listener)
        (tmp_path / "fhir" / "results").rmdir()
        assert "no such file" in await reason(listener)
    (tmp_path / "fhir").rmdir()
    (tmp_path / "fhir").touch()
    with pytest.raises(NotReady, match="not a directory"):
        await exporting(exporter, Kept(), tmp_path).start()


async def test_stop_in_the_middle_of_a_file_goes_on_behind_it(exporter: Exporter, tmp_path: Path) -> None:
    kept, marks = Kept(), Remembered()
    kept.refusals = [NotAccepted("away")] * 1000
    async with listening(exporting(exporter, kept, tmp_path, marks, **DAILY)):
        await until(lambda: len(kept.refusals) < 990)
        await asyncio.sleep(0)
    kept.refusals = []
    async with listening(exporting(exporter, kept, tmp_path, marks, **DAILY)):
        await until(lambda: bool(kept.told(ExportRead)))
    assert (names(kept), len(exporter.paths("$export"))) == (FIVE, 1)
