"""This module reads one page of what a bucket has, as ListObjectsV2 gives it.

Source: AWS, Amazon S3 API Reference, ListObjectsV2.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import unquote_plus

from broker.wire.safe_xml import read_xml

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element


@dataclass(frozen=True, slots=True)
class Listed:
    """An object: ``modified`` in nanoseconds, ``tag`` its ETag without quotes, ``storage`` its class of storage."""

    key: str
    size: int
    modified: int
    tag: str
    storage: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """Some objects, and the token with which the next page is asked for; no token on the last."""

    objects: Sequence[Listed]
    following: str


def read_page(data: bytes, token: str = "") -> Page:
    """Return what the page holds that was asked for with a token; raise `MessageError` or ValueError for no page."""
    root = read_xml(data)
    following = _text(root, "NextContinuationToken") if _text(root, "IsTruncated") == "true" else None
    if _local(root) != "ListBucketResult" or following in {"", token}:
        raise ValueError("it is no listing, or one that says not how to go on")
    is_encoded = _text(root, "EncodingType") == "url"
    found = [_listed(each, is_encoded=is_encoded) for each in root if _local(each) == "Contents"]
    return Page(found, following or "")


def bare(tag: str) -> str:
    """Return an ETag without what stands around it, which not every store writes everywhere."""
    return tag.removeprefix("W/").strip('"')


def _listed(element: "Element", *, is_encoded: bool) -> Listed:
    key, tag = _text(element, "Key"), bare(_text(element, "ETag"))
    if not key or not tag.isascii() or not tag.isprintable() or not tag:
        raise ValueError("an object without a key or ETag")
    modified = datetime.fromisoformat(_text(element, "LastModified"))
    modified = modified if modified.tzinfo else modified.replace(tzinfo=UTC)
    return Listed(
        key=unquote_plus(key, errors="surrogateescape") if is_encoded else key,
        size=int(_text(element, "Size")),
        modified=round(modified.timestamp() * 1000) * 1_000_000,
        tag=tag,
        storage=_text(element, "StorageClass"),
    )


def _text(element: "Element", name: str) -> str:
    """Return the text of an element's child, whatever its namespace; nothing where there is none."""
    return next((each.text or "" for each in element if _local(each) == name), "")


def _local(element: "Element") -> str:
    return element.tag.rpartition("}")[2]
