"""This module turns records into plain JSON values, under keys that do not change.

Keys are the records' field names (``class_`` is ``class``). ``id`` and ``*_id`` of the engine's store are 13 characters
as `broker.ids.show` writes them; times of ours (``*_at``) are ISO 8601 in UTC with milliseconds.
"""

from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from typing import Any

from broker.delivery import Via
from broker.ids import show


def to_json(record: Any) -> Any:
    """Return a record of `broker.queries`, or a sequence of them, as plain JSON values."""
    return _plain(record, ids=True)


def patient_to_json(record: Any) -> Any:
    """Return a record of the patient store likewise: small numbers as ids, senders' own times as text."""
    return _plain(record, ids=False)


def iso(at: float) -> str:
    """Return POSIX seconds as ISO 8601 in UTC with milliseconds."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _plain(value: Any, *, ids: bool, name: str = "") -> Any:
    if is_dataclass(value):
        return {
            field.name.rstrip("_"): _plain(getattr(value, field.name), ids=ids, name=field.name)
            for field in fields(value)
        }
    if isinstance(value, Via):
        return value._asdict()
    if isinstance(value, list | tuple):
        return [_plain(item, ids=ids) for item in value]
    if isinstance(value, float) and name.endswith("_at"):
        return iso(value)
    if ids and isinstance(value, int) and (name == "id" or name.endswith("_id")):
        return show(value)
    return value
