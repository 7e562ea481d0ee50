"""Files: names that stay in their folder, contents, what is done where a file system cannot do everything."""

import asyncio
import errno
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from broker.delivery import Delivered, Delivery, Outcome, Rejected, Retry, Unknown
from broker.errors import ConfigError, StepError
from broker.formats.delimited import CsvSpec
from broker.formats.tree import JsonSpec
from broker.message import Document
from broker.wire.batch import split_batch
from broker.wire.er7 import Message
from dispatch.file_batch import Batching, Gathering
from dispatch.files import FilesOutSpec, Folder
from dispatch.filing import File, checked_name, file_of
from dispatch.s3 import S3OutSpec
from dispatch.sftp import SftpOutSpec
from transforms.kit import Kit

RAW = b"MSH|^~\\&|E|M|X|Y|1||ADT^A08|C/1|P|2.5.1\rPID|1||..||Okafor\r"


def kit(form: Any = None) -> Any:
    made: Any = Kit(None, form)  # type: ignore[arg-type] # nothing is read from a folder
    return made


def rendered(raw: bytes = RAW, **options: Any) -> bytes:
    spec = FilesOutSpec.model_validate({"folder": "out", **options})
    return spec.build_renderer(kit())(Document(message=Message.parse(raw), received_at=0.0))


def test_values_in_names_are_encoded_and_stay_apart() -> None:
    assert rendered(name="{{ MSH-10 }}.hl7") == b"C%2F1.hl7\n" + RAW
    assert rendered(name="a-{{ PID-3 }}").partition(b"\n")[0] == b"a-.."
    assert rendered() == b".hl7\n" + RAW


def test_content_of_a_template_keeps_values_in_their_place() -> None:
    json = rendered(content='{"family": {{ PID-5 }}, "none": {{ PID-4 }}}', escape="json")
    assert json == b'.json\n{"family": "Okafor", "none": null}'
    head = "MSH|^~\\&|H||E||1||ADT^A08|{{ MSH-10 }}|P|2.5.1"
    assert rendered(content=head, escape="hl7").startswith(b".hl7\nMSH|^~\\&|H||E||1||ADT^A08|C/1|P|2.5.1\r")
    assert rendered(content="ö {{ PID-5 }}") == ".txt\nö Okafor".encode()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"name": "{{ PID-4 }}"}, "is empty"),
        ({"name": "{{ PID-3 }}"}, "is empty"),
        ({"name": ".{{ PID-5 }}"}, "begins with a dot"),
        ({"name": "a/{{ PID-5 }}"}, "has a slash"),
        ({"name": "a\nb"}, "line end"),
        ({"name": "x" * 256}, "more than 255 bytes"),
        ({"content": "{{ PID-4 }} "}, "the content is empty"),
    ],
)
def test_name_or_content_that_cannot_be_fails_the_message(options: dict[str, Any], words: str) -> None:
    with pytest.raises(StepError, match=words) as caught:
        rendered(**options)
    assert "Okafor" not in str(caught.value)


@given(st.text(min_size=1))
def test_name_that_passes_is_one_file_in_its_folder(name: str) -> None:
    try:
        checked = checked_name(name)
    except (StepError, UnicodeEncodeError):
        return
    path = Path("/folder") / checked
    assert path.parent == Path("/folder")
    assert path.name == checked
    assert "\0" not in checked


def test_rows_are_no_files_and_documents_are() -> None:
    spec = FilesOutSpec.model_validate({"folder": "out"})
    with pytest.raises(ConfigError, match="a row of csv is no file"):
        spec.build_renderer(kit(CsvSpec().build(None)))
    form = JsonSpec().build(None)
    assert spec.build_renderer(kit(form))(form.document(b'{"a": 1.10}', 0.0)) == b'.json\n{"a": 1.10}'
    with pytest.raises(StepError, match="were not kept"):
        spec.build_renderer(kit(form))(Document(message={}, received_at=0.0))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch": {}, "name": "x"}, "`name` is for one message"),
        ({"batch": {}, "exists": "refuse"}, "is not for a `batch`"),
        ({"mode": "rw"}, "pattern"),
        ({"folder": ""}, "at least 1"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        FilesOutSpec.model_validate({"folder": "out", **options})


def test_batch_wants_hl7() -> None:
    spec = FilesOutSpec.model_validate({"folder": "out", "batch": {}, "content": "x"})
    with pytest.raises(ConfigError, match="holds HL7"):
        spec.build_renderer(kit())


def test_concurrency_is_what_a_batch_holds_or_how_many_files_are_written() -> None:
    assert FilesOutSpec.model_validate({"folder": "out", "batch": {"most": 70}}).concurrency == 70
    assert FilesOutSpec.model_validate({"folder": "out"}).concurrency == 4
    assert SftpOutSpec.model_validate({"folder": "out", "place": "x", "connections": 3}).concurrency == 3


def test_prefix_of_objects_is_plain() -> None:
    for prefix in ("/adt", "a//b", "{{ PID-3 }}", "a\n"):
        with pytest.raises(ValidationError, match="without a slash in front"):
            S3OutSpec.model_validate({"place": "x", "prefix": prefix})
    renderer = S3OutSpec.model_validate({"place": "x"}).build_renderer(kit())
    assert renderer(Document(message=Message.parse(RAW), received_at=0.0)) == b".hl7\n" + RAW


def test_our_own_reader_takes_a_batch_apart_again() -> None:
    messages = [b"MSH|^~\\&|A||B||1||ADT^A08|C%d|P|2.5.1\rPID|1\r" % number for number in range(3)]
    built = Batching("A|B&C", "D|E^F", lambda: 0.0).build([*messages[:2], messages[2] + b"\n"], "N1")
    batch = split_batch(built, 10)
    assert not batch.faults
    assert batch.groups[0].messages == messages
    header = batch.files[0].header
    assert header is not None
    assert (header.control_id, header.sending_facility, header.receiving_facility) == (b"N1", b"B\\T\\C", b"E\\S\\F")


# A folder.


def file(content: bytes = b"MSH") -> File:
    return file_of(Delivery(id=1 << 40, route=1, key="k", request=b"a.hl7\n" + content))


def test_file_may_be_read_by_whom_the_channel_says(tmp_path: Path) -> None:
    mask = os.umask(0o077)
    try:
        assert Folder(tmp_path, tmp_path, 0o644).put(file(), "refuse") == Delivered(reference="a.hl7")
    finally:
        os.umask(mask)
    assert stat.S_IMODE((tmp_path / "a.hl7").stat().st_mode) == 0o644


def test_link_of_that_name_is_neither_followed_nor_written_over(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"MSH")
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    (inbox / "a.hl7").symlink_to(outside)
    outcome = Folder(inbox, inbox).put(file(), "same_is_done")
    assert isinstance(outcome, Rejected)
    assert Folder(inbox, inbox).put(file(b"new"), "replace") == Delivered(reference="a.hl7")
    assert outside.read_bytes() == b"MSH"
    assert (inbox / "a.hl7").read_bytes() == b"new"


def test_folder_of_that_name_is_another_file(tmp_path: Path) -> None:
    (tmp_path / "a.hl7").mkdir()
    assert isinstance(Folder(tmp_path, tmp_path).put(file(), "same_is_done"), Rejected)
    assert isinstance(Folder(tmp_path, tmp_path).put(file(), "replace"), Rejected)


def broken(monkeypatch: pytest.MonkeyPatch, name: str, number: int) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, name, fail)


def put(folder: Path) -> Outcome:
    return Folder(folder, folder).put(file(), "same_is_done")


def test_file_system_without_links_is_served_by_a_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken(monkeypatch, "link", errno.EPERM)
    assert put(tmp_path) == Delivered(reference="a.hl7")
    assert [path.name for path in tmp_path.iterdir()] == ["a.hl7"]


def test_file_that_appears_at_the_last_moment_is_not_written_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.fsync

    def appear(descriptor: int) -> None:
        (tmp_path / "a.hl7").write_bytes(b"other")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", appear)
    for number in (0, errno.EPERM):
        if number:
            (tmp_path / "a.hl7").unlink()
            broken(monkeypatch, "link", number)
        outcome = put(tmp_path)
        assert isinstance(outcome, Rejected)
        assert (tmp_path / "a.hl7").read_bytes() == b"other"
        assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("name", "number", "kind"),
    [
        ("link", errno.EIO, Retry),
        ("open", errno.ENOSPC, Retry),
        ("open", errno.EACCES, Rejected),  # a name that nobody may read is somebody else's
        ("open", errno.ENAMETOOLONG, Rejected),
        ("fsync", errno.EIO, Retry),
    ],
)
def test_outcome_follows_from_what_the_system_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, number: int, kind: type
) -> None:
    broken(monkeypatch, name, number)
    assert isinstance(put(tmp_path), kind)
    assert not (tmp_path / "a.hl7").exists()


@pytest.mark.parametrize(("number", "kind"), [(errno.EIO, Unknown), (errno.EINVAL, Delivered)])
def test_name_that_may_not_be_on_disk_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type
) -> None:
    real = os.fsync

    def fail(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fail)
    assert isinstance(put(tmp_path), kind)


async def test_destination_wants_to_be_opened(tmp_path: Path) -> None:
    tools: Any = SimpleNamespace(settings=SimpleNamespace(root=tmp_path), channel="adt", marks=None)
    destination = FilesOutSpec.model_validate({"folder": "."}).build(tools)
    with pytest.raises(RuntimeError, match="before open"):
        await destination.send([Delivery(id=1, route=1, key="k", request=b"a\nb")])


async def test_folder_that_hangs_is_unknown(tmp_path: Path) -> None:
    tools: Any = SimpleNamespace(settings=SimpleNamespace(root=tmp_path), channel="adt", marks=None)
    destination = FilesOutSpec.model_validate({"folder": ".", "name": "x", "timeout": "50ms"}).build(tools)
    os.mkfifo(tmp_path / ".0000000000001.part")  # opening it to write waits for a reader
    await destination.open()
    (outcome,) = await destination.send([Delivery(id=1, route=1, key="k", request=b"a\nb")])
    assert isinstance(outcome, Unknown)
    with (tmp_path / ".0000000000001.part").open("rb"):  # the thread goes on and ends
        pass
    await destination.close()


async def test_batch_is_written_when_its_time_is_up_and_none_without_messages() -> None:
    written: list[list[int]] = []

    async def write(deliveries: Sequence[Delivery]) -> Outcome:
        written.append([each.id for each in deliveries])
        await asyncio.sleep(0)
        return Delivered()

    gathering = Gathering(3, 0.02, write)
    await gathering.finish()
    some = [Delivery(id=number, route=1, key="k", request=b"") for number in range(3)]
    given_up = asyncio.create_task(gathering.add(some[0]))
    kept = asyncio.create_task(gathering.add(some[1]))
    await asyncio.sleep(0)
    given_up.cancel()  # the engine stops waiting; the message is in the file all the same
    assert await kept == Delivered()
    assert await gathering.add(some[2]) == Delivered()
    assert written == [[0, 1], [2]]
