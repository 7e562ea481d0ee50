"""This module tries, before anything runs, the keys that requests for tokens are signed with."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from broker.errors import ConfigError
from config.auth import AuthSpec, JwtBearerSpec, SmartSpec
from config.findings import Finding
from config.gateways import VonageMessagesSpec
from config.marks import Keys, Marks, show
from config.secrets import Secret, SecretError

_WAYS = ("jwt_bearer", "smart")  # that sign


def check_keys(settings: BaseModel, marks: Marks, data: Path, environment: Mapping[str, str]) -> Iterator[Finding]:
    """Yield what is wrong with the keys of the settings that sign; ``data`` is the data folder."""
    for name, gateway in getattr(settings, "gateways", {}).items():
        if isinstance(gateway, VonageMessagesSpec) and gateway.private_key is not None:
            place: Keys = ("gateways", name, "private_key")
            yield from _try(gateway.private_key, "RS256", place, marks, environment)
    for keys, auth in _auths(settings):
        for way in _WAYS:
            spec = getattr(auth, way)
            if spec is not None:
                yield from _check(spec, (*keys, way), marks, data, environment)


def _auths(value: Any, keys: Keys = ()) -> Iterator[tuple[Keys, AuthSpec]]:
    if isinstance(value, AuthSpec):
        yield keys, value
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _auths(getattr(value, name), (*keys, name))
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _auths(inner, (*keys, key))


def _check(
    spec: JwtBearerSpec | SmartSpec, keys: Keys, marks: Marks, data: Path, environment: Mapping[str, str]
) -> Iterator[Finding]:
    from dispatch.grants import SMART_ALGORITHMS  # noqa: PLC0415 - brings cryptography along, used here only
    from dispatch.key_folder import choose, live_keys  # noqa: PLC0415

    if spec.private_key is not None:
        yield from _try(spec.private_key, spec.algorithm or "", (*keys, "private_key"), marks, environment)
        return
    wanted = (spec.algorithm,) if spec.algorithm else SMART_ALGORITHMS
    try:
        newest = max((live.signs_from for live in live_keys(data)), default=0.0)
        choose(data, newest, wanted)
    except ConfigError as error:
        yield marks.key(keys).finding("E407", f"{show(keys)}: {error}", severity="warning")


def _try(key: Secret, algorithm: str, place: Keys, marks: Marks, environment: Mapping[str, str]) -> Iterator[Finding]:
    from dispatch.signing import read_key  # noqa: PLC0415 - as above

    try:
        read_key(key.reveal(environment), show(place), algorithm=algorithm)
    except SecretError:
        return  # told already
    except ConfigError as error:
        yield marks.value(place).finding("E406", str(error))
