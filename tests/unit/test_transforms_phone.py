"""This module tests how telephone numbers are written."""

import pytest

from transforms.phone import e164, region_mistake


@pytest.mark.parametrize(
    ("sent", "region", "expected"),
    [
        ("(217)555-0147", "US", "+12175550147"),
        ("217.555.0147", "US", "+12175550147"),
        ("+1 217 555 0147", None, "+12175550147"),
        ("+44 20 7946 0958", "US", "+442079460958"),
        ("020 7946 0958", "GB", "+442079460958"),
        ("(217)555-0147", None, None),  # which country?
        ("555-0147", "US", None),  # which area?
        ("call the ward", "US", None),
        ("", "US", None),
        ("+", None, None),
    ],
)
def test_number_is_e164_or_none(sent: str, region: str | None, expected: str | None) -> None:
    assert e164(sent, region) == expected


def test_region_is_explained_when_it_is_none() -> None:
    assert region_mistake("US") is None
    assert "did you mean GB?" in (region_mistake("UK") or "")
    assert "did you mean US?" in (region_mistake("us") or "")
    assert "did you mean" not in (region_mistake("XQ") or "did you mean")
