"""Access to buckets: where each stands, how names go into addresses, and what a store's error says."""

from types import SimpleNamespace
from typing import Any

import pytest

from broker.buckets import error_code, find_bucket
from broker.errors import ConfigError


def settings(**options: Any) -> Any:
    given = {"base": "https://s3.example/", "bucket": "inbox", "region": "eu-west-1", "style": "path", **options}
    place = SimpleNamespace(access_key="AKIA", secret="s3cret", session_token=None, **given)
    return SimpleNamespace(places={"archive": SimpleNamespace(sftp=None, s3=place)})


def test_bucket_stands_in_the_path_or_in_the_host_name() -> None:
    assert find_bucket(settings(), "archive", "here").base == "https://s3.example/inbox"
    assert find_bucket(settings(style="host"), "archive", "here").base == "https://inbox.s3.example"
    with pytest.raises(ConfigError, match=r"here: 'registry' is no bucket .*\(there: archive\)"):
        find_bucket(settings(), "registry", "here")


def test_address_keeps_every_name_apart() -> None:
    bucket = find_bucket(settings(), "archive", "here")
    assert bucket.address() == "https://s3.example/inbox/"
    assert bucket.address("a b+é/../c?d%20") == "https://s3.example/inbox/a%20b%2B%C3%A9/../c%3Fd%2520"
    assert bucket.address("\udcff") == "https://s3.example/inbox/%FF"
    assert bucket.source("a b/c") == "/inbox/a%20b/c"
    query = {"prefix": "a/ b", "list-type": "2", "lifecycle": ""}
    assert bucket.address(query=query) == "https://s3.example/inbox/?prefix=a%2F%20b&list-type=2&lifecycle="


def test_request_is_signed_for_the_place_and_shows_no_secret() -> None:
    bucket = find_bucket(settings(), "archive", "here")
    signed = bucket.sign("GET", bucket.address("a"), {"If-Match": '"x"'})
    assert "Credential=AKIA/" in signed["Authorization"]
    assert "/eu-west-1/s3/aws4_request" in signed["Authorization"]
    assert "s3cret" not in f"{signed}{bucket!r}"


def test_error_has_a_code_or_none() -> None:
    assert error_code(b"<Error><Code>NoSuchBucket</Code></Error>") == "NoSuchBucket"
    assert error_code(b"<html>") == ""
