"""This module says of a FHIR resource which version of it one is, so that one that comes again is known."""

import hashlib
from typing import Any

import orjson


def version_key(resource: dict[str, Any], body: bytes, server: str) -> bytes:
    """Return what makes a resource of a server the same as one that came before.

    That is its type, id and version, and when that was written: some servers call every version the first. Where it
    has no version, it is its bytes.
    """
    meta = resource.get("meta")
    meta = meta if isinstance(meta, dict) else {}
    name, version = resource.get("id"), meta.get("versionId")
    if not (isinstance(name, str) and isinstance(version, str) and name and version):
        version = hashlib.sha256(body).hexdigest()
    return orjson.dumps([server, resource.get("resourceType"), name, version, meta.get("lastUpdated")])
