"""Times that senders state are compared only where the answer is certain."""

from datetime import UTC, datetime

import pytest

from dispatch.patients.times import is_older, moment


@pytest.mark.parametrize(
    ("time", "than"),
    [
        ("2026-11-20", "2026-11-21"),
        ("2026-11", "2026-12"),
        ("2026-11-20T10:00:00", "2026-11-20T10:00:01"),
        ("2026-11-20T10:00:00+01:00", "2026-11-20T10:00:01+01:00"),
        ("2026-11-20T10:00:00+02:00", "2026-11-20T09:00:00Z"),  # 08:00 UTC, though the text is larger
        ("2026-11-20T10:00:00.5+00:00", "2026-11-20T10:00:01Z"),
    ],
)
def test_is_older_when_certain(time: str, than: str) -> None:
    assert is_older(time, than)
    assert not is_older(than, time)


@pytest.mark.parametrize(
    ("time", "than"),
    [
        (None, "2026-11-20"),
        ("2026-11-20", None),
        ("2026-11-20", "2026-11-20"),
        ("2026-11-20", "2026-11-21T10:00:00"),  # of another precision
        ("2026-11-20T10:00:00", "2026-11-20T12:00:00Z"),  # no offset against one
        ("2026-11-20T10:00", "2026-11-20T12:00:00"),
        ("2026-11-20Tnonsense-000Z", "2026-11-21T10:00:00+00:00"),
    ],
)
def test_is_older_is_false_when_not_comparable(time: str | None, than: str | None) -> None:
    assert not is_older(time, than)
    assert not is_older(than, time)


@pytest.mark.parametrize(
    ("text", "begins", "ends"),
    [
        ("2026", "2026-01-01", "2027-01-01"),
        ("2026-12", "2026-12-01", "2027-01-01"),
        ("2026-02-28", "2026-02-28", "2026-03-01"),
        ("2026-11-20T10:00:00", "2026-11-20T10:00", "2026-11-20T10:00"),
        ("2026-11-20T10:00:00.5+02:00", "2026-11-20T08:00:00.5", "2026-11-20T08:00:00.5"),
    ],
)
def test_a_date_time_begins_and_is_over(text: str, begins: str, ends: str) -> None:
    for is_end, expected in ((False, begins), (True, ends)):
        assert moment(text, is_end=is_end) == datetime.fromisoformat(expected).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize("text", [None, "", "soon", "2026-13", "2026-11-20T25:00:00"])
def test_what_is_no_date_time_has_no_moment(text: str | None) -> None:
    assert moment(text) is None
