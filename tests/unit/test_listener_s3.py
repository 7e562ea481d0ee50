"""What a bucket lists, and what a channel may say of one."""

from typing import Any, Final

import pytest
from pydantic import ValidationError

from broker.errors import MessageError
from listeners.s3 import S3InSpec
from listeners.s3_listing import Listed, read_page

TIME: Final = 1_772_359_200_123_000_000  # 2026-03-01, 10:00 in London
OBJECT: Final = (
    "<Contents><Key>in/a+%E9%2B.csv</Key><LastModified>2026-03-01T10:00:00.123Z</LastModified>"
    "<ETag>&quot;5d41&quot;</ETag><Size>19</Size><StorageClass>STANDARD</StorageClass></Contents>"
)


def page(inside: str, root: str = "ListBucketResult") -> bytes:
    return f'<{root} xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{inside}</{root}>'.encode()


def test_objects_are_listed_as_the_store_has_them() -> None:
    found = read_page(page(f"<EncodingType>url</EncodingType>{OBJECT}"))
    assert found.objects == [Listed("in/a \udce9+.csv", 19, TIME, "5d41", "STANDARD")]
    assert found.following == ""
    plain = OBJECT.replace("Z<", "<").replace("&quot;", "").replace("5d41", "W/&quot;5d41-2&quot;")
    assert read_page(page(plain)).objects == [Listed("in/a+%E9%2B.csv", 19, TIME, "5d41-2", "STANDARD")]
    more = "<IsTruncated>true</IsTruncated><NextContinuationToken>a/b=</NextContinuationToken>"
    assert read_page(page(more), "a/").following == "a/b="


@pytest.mark.parametrize(
    "data",
    [
        page("", "Error"),
        page("<IsTruncated>true</IsTruncated>"),
        page("<IsTruncated>true</IsTruncated><NextContinuationToken>again</NextContinuationToken>"),
        page(OBJECT.replace("in/a+%E9%2B.csv", "")),
        page(OBJECT.replace("&quot;5d41&quot;", "")),
        page(OBJECT.replace("5d41", "é")),
        page(OBJECT.replace("2026", "soon")),
        page(OBJECT.replace("19", "much")),
        b"<html><p>Log in",
        b"<!DOCTYPE a [<!ENTITY b 'c'>]><ListBucketResult>&b;</ListBucketResult>",
    ],
)
def test_what_is_no_listing_is_refused(data: bytes) -> None:
    with pytest.raises((ValueError, MessageError)):
        read_page(data, "again")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"prefix": "in"}, "ends with a slash"),
        ({"prefix": "/in/"}, "ends with a slash"),
        ({"prefix": "in//"}, "ends with a slash"),
        ({"prefix": "in/", "done": "."}, "is the folder itself"),
        ({"prefix": "in/", "done": "/in"}, "`done` is what is read itself, or above it"),
        ({"prefix": "in/sub/", "failed": ".."}, "`failed` is what is read itself, or above it"),
        ({"failed": "/"}, "`failed` is what is read itself, or above it"),
        ({"folder": "in/"}, "Extra inputs are not permitted"),
    ],
)
def test_prefix_that_would_be_read_again_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        S3InSpec.model_validate({"place": "archive", **options})


def test_objects_go_below_beside_or_nowhere() -> None:
    for options in ({"done": "x"}, {"done": "/x/in"}, {"done": "../inbox"}, {"done": "/", "after": "keep"}):
        S3InSpec.model_validate({"place": "archive", "prefix": "in/", **options})
