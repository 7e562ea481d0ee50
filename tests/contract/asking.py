"""This module asks for tokens as tests of credentials do."""

import json
import time
from typing import Any, Final

from broker.delivery import Retry
from config.auth import AuthSpec
from dispatch.auth import Credentials
from tests.contract.token_server import CLIENT

PEER: Final = "server ehr"
TOLD: Final = ("s3cret", "Okafor", "token-", "refresh-0", CLIENT)  # what no reason may repeat


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


def spec(**auth: Any) -> AuthSpec:
    """Read an `auth:` block as it stands in a file."""
    return AuthSpec.model_validate_json(json.dumps(auth), strict=True)


async def given(credentials: Credentials) -> dict[str, str]:
    """Return the headers, which there have to be."""
    headers = await credentials.headers()
    assert not isinstance(headers, Retry), headers
    return dict(headers)  # type: ignore[arg-type]  # an Unknown would fail here


async def refused(credentials: Credentials) -> Retry:
    """Return why there are no headers; it repeats nothing that is secret."""
    found = await credentials.headers()
    assert isinstance(found, Retry)
    assert not [told for told in TOLD if told in found.reason]
    assert found.reason.startswith(f"{PEER}: ")
    return found
