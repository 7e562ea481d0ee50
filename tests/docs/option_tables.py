"""This module writes the tables of options in reference pages: ``python -m tests.docs.option_tables`` prints them.

A page names what a table is of in a line ``<!-- options of deliver.mllp -->`` in front of it.
"""

import typing
from typing import Any, Final

from broker.spec import Spec
from broker.tls import TlsSpec
from config.auth import AuthSpec
from config.catalog import DESTINATIONS, LISTENERS
from config.mailboxes import MailboxSpec
from config.places import DatabaseSpec, S3PlaceSpec, SftpPlaceSpec
from listeners.http_service import HttpPortSpec

_SETTINGS: Final[dict[str, type[Spec]]] = {
    "places.sftp": SftpPlaceSpec,
    "places.s3": S3PlaceSpec,
    "databases": DatabaseSpec,
    "tls": TlsSpec,
    "mailboxes": MailboxSpec,
}
_KINDS: Final = ("mllp", "files", "sftp", "s3", "channel", "database", "answer")
_WAYS_IN: Final = ("timer", "database", "fhir_search", "fhir_export", "imap", "files", "sftp", "s3", "soap")
_OF_HTTP: Final = frozenset(HttpPortSpec.model_fields)  # the page on HTTP has them
_UNITS: Final = ((86_400, "d"), (3600, "h"), (60, "m"), (1, "s"), (0.001, "ms"))


def tables() -> dict[str, str]:
    """Return the tables by what they are of."""
    ways_in: dict[str, type[Spec]] = {f"listen.{kind}": LISTENERS[kind] for kind in _WAYS_IN}
    ways_out: dict[str, type[Spec]] = {f"deliver.{kind}": DESTINATIONS[kind] for kind in _KINDS}
    return {name: table(spec) for name, spec in (ways_in | ways_out | _SETTINGS).items()}


def table(spec: type[Spec]) -> str:
    """Return the options of a Spec as a table, those of the Specs in it below theirs."""
    return "\n".join(["| option | default | what it says |", "|---|---|---|", *_rows(spec, "")]) + "\n"


def _rows(spec: type[Spec], before: str) -> list[str]:
    schema = spec.model_json_schema()["properties"]
    rows = []
    for name, field in spec.model_fields.items():
        if issubclass(spec, HttpPortSpec) and name in _OF_HTTP:
            continue
        key = field.alias or name
        written = "" if field.is_required() else _default(field.default, schema[key])
        told = str(field.description).replace("|", "\\|")
        rows.append(f"| `{before}{key}` | {written} | {told} |")
        for inner in (field.annotation, *typing.get_args(field.annotation)):
            if isinstance(inner, type) and issubclass(inner, Spec) and inner is not AuthSpec:  # has its own page
                rows += _rows(inner, f"{before}{key}.")
    return rows


def _default(value: Any, schema: dict[str, Any]) -> str:
    if value is None or value in ("", [], {}):
        return ""
    if isinstance(value, Spec):
        return ""  # its own options follow
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, float) and "pattern" in str(schema):
        size, unit = next((size, unit) for size, unit in _UNITS if not value % size)
        return f"`{value / size:g}{unit}`"
    return f"`{value}`"


if __name__ == "__main__":
    for name, text in tables().items():
        print(f"<!-- options of {name} -->\n{text}")  # noqa: T201 - it is what it is for
