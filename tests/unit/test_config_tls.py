"""What `handoff check` says of the files that TLS towards others needs, at their place in handoff.yaml or a channel."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from config.settings import read_settings
from tests.certificates import Authority
from tests.project import CHANNEL, Project


@pytest.mark.parametrize(
    ("kind", "rest"),
    [
        ("systems", {"preset": "json"}),
        ("servers", {}),
        ("gateways", {"account": "AC1", "token": "${env:T}", "from": "+12025550100"}),
    ],
)
def test_certificates_of_ones_own_are_tried(tmp_path: Path, kind: str, rest: dict[str, Any]) -> None:
    Authority(tmp_path).vouch("handoff.example")

    def told(base: str, **tls: str) -> list[str]:
        entry = {"base": base, "tls": tls, **rest}
        (tmp_path / "handoff.yaml").write_bytes(orjson.dumps({kind: {"x": entry}}))
        _, findings = read_settings(tmp_path / "handoff.yaml", environment={"T": "t"})
        return [f"{one.code} {one.text}" for one in findings]

    ours = {"ca": "Test-CA.pem", "certificate": "Test-CA-handoff.example.pem"}
    assert told("https://x.example", **ours) == []
    (missing,) = told("https://x.example", **{**ours, "ca": "none.pem"})
    assert missing == (
        f"E408 {kind}.x.tls.ca: none.pem cannot be read (No such file or directory); check the path and its rights"
    )
    assert told("http://x.example", **ours) == [
        f"E107 {kind}.x.base is without TLS, so nobody would look at the certificates"
    ]
    assert [one[:4] for one in told("https://x.example", key="a.key")] == ["E107"]


def test_certificates_for_partners_are_tried(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.channel(CHANNEL + "  partner:\n    mllp: {endpoint: 'h:1', tls: {ca: none.pem}}\n")
    assert [f"{one.code} {one.text}"[:49] for one in project.check().findings] == [
        "E408 deliver.partner.mllp.tls.ca: none.pem cannot"
    ]
