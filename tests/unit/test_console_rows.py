"""What is said of flat files before a channel's steps run over them, or where no channel is named."""

from pathlib import Path

import pytest

from console.inspection import Asked, inspect
from tests.showing import ROSTER, ROWS, Folder


@pytest.fixture
def folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Folder:
    return Folder(tmp_path, capsys)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--channel", "fed"), 'did you mean "feed"?'),
        (("--channel", "adt"), "takes hl7"),
        (("--channel", "feed", "--at", "rw.mrn"), "did you mean row?"),
        (("--channel", "feed", "--at", "row.mnr"), "mrn"),
    ],
)
def test_slip_of_the_pen_is_a_mistake_of_usage(folder: Folder, arguments: tuple[str, ...], said: str) -> None:
    (folder.folder / "a.csv").write_bytes(ROWS)
    code, out, err = folder.show("a.csv", *arguments)
    assert (code, out) == (2, "")
    assert said in err


def test_channel_with_a_mistake_says_where_it_is(folder: Folder) -> None:
    folder.project.channel(ROSTER.replace("row.mrn != ''", "rwo.mrn"))
    (folder.folder / "a.csv").write_bytes(ROWS)
    code, _, err = folder.show("a.csv", "--channel", "feed")
    assert code == 2
    assert "feed.yaml:7:" in err


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (ROWS, "csv"),
        ("mrn;dob\r\n7;1\r\n".encode("utf-16"), "csv"),
        (b"ISA_NO\tname\n1\tx\n", "csv"),
        (b"007Okafor\n008Nwosu \n", "fixed"),
        (b'{"mrn": 7}\n{"mrn": 8}\n{no\n', "ndjson"),
    ],
)
def test_flat_file_without_a_channel_says_what_to_do(data: bytes, kind: str) -> None:
    found = inspect(data, Asked())
    assert (found.kind, found.verdict) == (kind, "refused")
    assert found.errors[0]["text"].endswith("handoff show FILE --channel NAME")


@pytest.mark.parametrize("data", [b"PID|1|2\rPV1|1|2\r", b"hello", b"hello\nworld, all\n", b"A\r\n"])
def test_what_shows_no_columns_is_taken_for_broken_hl7(data: bytes) -> None:
    assert inspect(data, Asked()).errors[0]["location"] == "MSH"


def test_one_object_of_json_says_what_to_do_too() -> None:
    assert inspect(b'{"mrn": 7}', Asked()).errors[-1]["text"].endswith("--channel NAME")
