"""Places and databases of handoff.yaml: what they must say, and that destinations name what is there."""

from pathlib import Path

import pytest

from config.settings import read_settings
from tests.project import CHANNEL, SETTINGS, Project

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIq2QgnZg2dYuHzlSpcT2EvnCD2HTDX2RRRQDNCBn2wM"
SFTP = f"host: h, user: u, password: '${{env:P}}', host_key: {KEY}"
S3 = "base: https://s3.example, bucket: inbox, access_key: AKIA, secret: '${env:P}'"


def found(folder: Path, text: str, **environment: str) -> list[str]:
    (folder / "handoff.yaml").write_text(text)
    _, findings = read_settings(folder / "handoff.yaml", environment={"P": "x", **environment})
    return [f"{each.code} {each.text} ({each.hint})" for each in findings]


def test_places_and_databases_that_are_complete_are_taken(tmp_path: Path) -> None:
    text = f"places:\n  a: {{sftp: {{{SFTP}}}}}\n  b: {{s3: {{{S3}}}}}\n"
    text += "databases:\n  c: {url: 'postgresql://me@host/x', password: '${env:P}'}\n  d: {url: 'sqlite:///x.db'}\n"
    assert not found(tmp_path, text)


@pytest.mark.parametrize(
    ("place", "words"),
    [
        (f"sftp: {{{SFTP}}}, s3: {{{S3}}}", "exactly one kind of place"),
        ("", "exactly one kind of place"),
        (f"sftp: {{{SFTP.replace(KEY, 'AAAA')}}}", "is a type and a key"),
        (f"sftp: {{{SFTP}, known_hosts: x}}", "host key, else anybody could be it"),
        (f"sftp: {{{SFTP.partition(', host_key')[0]}}}", "host key, else anybody could be it"),
        (f"sftp: {{host: h, user: u, host_key: {KEY}}}", "needs a way to log in"),
        (f"s3: {{{S3.replace('inbox', 'In Box')}}}", "bucket"),
        (f"s3: {{{S3.replace('https://', 'ftp://')}}}", "needs an address"),
        (f"s3: {{{S3.replace('${env:P}', 'open')}}}", "a secret itself"),
        (f"s3: {{{S3.replace('${env:P}', '${env:NOWHERE}')}}}", "NOWHERE is not set"),
    ],
)
def test_place_that_cannot_be_used_is_told(tmp_path: Path, place: str, words: str) -> None:
    told = found(tmp_path, f"places:\n  a: {{{place}}}\n")
    assert any(words in each for each in told), told


@pytest.mark.parametrize("url", ["host/x", "postgresql://", "no url"])
def test_database_that_is_no_url_is_told(tmp_path: Path, url: str) -> None:
    assert any("URL of SQLAlchemy" in each for each in found(tmp_path, f"databases:\n  a: {{url: '{url}'}}\n"))


def test_destination_names_a_place_or_database_that_is_there(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.write("handoff.yaml", f"{SETTINGS}places:\n  registry: {{sftp: {{{SFTP}}}}}\n")
    begin = CHANNEL.partition("deliver:")[0]
    project.channel(
        f"{begin}deliver:\n  a:\n    sftp: {{place: registri, folder: x}}\n"
        "  b:\n    database: {database: dwh, table: t, values: {a: b}}\n"
    )
    told = [line for line in project.told(P="x") if "E301" in line]
    assert (
        'deliver.a.sftp.place names "registri", which is no place of handoff.yaml (did you mean "registry"?' in told[0]
    )
    assert "handoff.yaml has no databases: add `databases: {dwh: …}`" in told[1]
