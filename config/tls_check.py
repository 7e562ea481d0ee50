"""This module tries, before anything runs, the files that TLS towards others needs."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from broker.errors import ConfigError
from broker.tls import TlsSpec, make_context
from config.findings import Finding
from config.marks import Keys, Marks, show

_PLAIN = "http://"


def check_tls(spec: Any, marks: Marks, root: Path, keys: Keys = ()) -> Iterator[Finding]:
    """Yield what is wrong with every ``tls:`` in a Spec that stands at ``keys``; files start at ``root``."""
    if isinstance(spec, TlsSpec):
        yield from _try(spec, keys, marks, root)
    elif isinstance(spec, BaseModel):
        if isinstance(getattr(spec, "tls", None), TlsSpec) and str(getattr(spec, "base", "")).startswith(_PLAIN):
            text = f"{show((*keys, 'base'))} is without TLS, so nobody would look at the certificates"
            yield marks.value((*keys, "base")).finding("E107", text, "write https://…, or remove `tls`")
        for name in type(spec).model_fields:
            yield from check_tls(getattr(spec, name), marks, root, (*keys, name))
    elif isinstance(spec, dict):
        for key, inner in spec.items():
            yield from check_tls(inner, marks, root, (*keys, key))


def _try(spec: TlsSpec, keys: Keys, marks: Marks, root: Path) -> Iterator[Finding]:
    try:
        make_context(spec, root, show(keys))
    except ConfigError as error:
        yield marks.key(keys).finding("E408", str(error))
