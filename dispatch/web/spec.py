"""This module declares `http`: a request to a system of ``handoff.yaml``, by a preset's operation or one's own."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from broker.errors import ConfigError
from broker.named import find_named
from broker.places import reveal
from broker.spec import DestinationSpec, Seconds
from broker.tls import build_tls
from dispatch.auth import build_credentials
from dispatch.http import Exchange, web_address
from dispatch.web.destination import System, WebSystem
from dispatch.web.preset import Name, OperationSpec, PresetSpec, fill
from dispatch.web.rendering import RequestRenderer
from dispatch.web.signature import signing_key

if TYPE_CHECKING:
    from broker.parts import Destination, Renderer, Tools


class HttpSpec(DestinationSpec):
    """A request to a system on the web: a CRM, a help desk, a webhook."""

    medium: ClassVar[str | None] = ""  # it may call people, or push to their apps

    system: str = Field(description="Name of the system, as under `systems:` in handoff.yaml.")
    operation: str | None = Field(
        default=None, description="What it is asked to do: an operation of its preset, such as upsert_patient."
    )
    request: OperationSpec | None = Field(
        default=None, description="A request of one's own instead, written as operations of presets are."
    )
    values: dict[Name, Any] = Field(
        default={},
        description="Values of the operation, with holes; of keys and values, those that differ (null: leave out).",
    )
    batch_size: int | None = Field(
        default=None, ge=1, le=2000, description="The most rows that go out together, where that is to be fewer."
    )
    concurrency: int = Field(default=8, ge=1, le=100, description="Requests under way at a time.")
    timeout: Seconds = Field(default=30.0, gt=0, description="How long the system may take to answer.")

    @model_validator(mode="after")
    def _one(self) -> "HttpSpec":
        if (self.operation is None) == (self.request is None):
            raise ValueError("needs `operation` or `request`, and not both")
        return self

    def unknown_policy(self) -> str:
        """Return nothing: the operation says it, once the preset is known."""
        return ""

    def build(self, tools: "Tools") -> "Destination":
        """Build the sending half; raise `ConfigError` when the system or operation is missing or incomplete."""
        where = f"channel {tools.channel}"
        preset = _preset(tools.presets, self.system, where)
        operation = self.find_operation(preset, where)
        found = tools.settings.systems[self.system]
        peer = f"system {self.system}"
        tls = build_tls(found.tls, tools, f"handoff.yaml, systems.{self.system}.tls")
        http = Exchange(peer, timeout=self.timeout, limit=self.concurrency, reuse=operation.is_repeatable, tls=tls)
        base = _base(found, preset, self.system)
        system = System(
            name=self.system,
            base=base,
            credentials=build_credentials(
                found.auth, peer, http, base=base, data=getattr(tools.settings, "data", None)
            ),
            signing_key=signing_key(reveal(found.signing_secret)) if preset.signing else b"",
        )
        size = operation.batch.size if operation.batch else 1
        return WebSystem(system, preset, operation, http, min(size, self.batch_size or size))

    def build_renderer(self, kit: Any) -> "Renderer":
        """Build the pure half: the operation's templates, with this channel's values."""
        if getattr(kit, "only_checks", False) and self._cannot(kit.presets):
            return lambda _: b""  # what is wrong is told with its place
        preset = _preset(kit.presets, self.system, "http")
        operation = self.find_operation(preset, "http")
        return RequestRenderer(
            kit, f"{self.system}.{self.operation or 'request'}", operation, self.values, own=self.request is not None
        )

    def find_operation(self, preset: PresetSpec, where: str) -> OperationSpec:
        """Return the operation that is asked for; raise `ConfigError` when the preset has none of that name."""
        if self.request is not None:
            return self.request
        found = preset.operations.get(self.operation or "")
        if found is None:
            known = ", ".join(preset.operations) or "none"
            raise ConfigError(f"{where}: {preset.name} has no operation {self.operation!r} (there: {known})")
        return found

    def _cannot(self, presets: Any) -> bool:
        preset = presets.get(self.system)
        return preset is None or (self.request is None and self.operation not in preset.operations)


def _preset(presets: Mapping[str, PresetSpec], system: str, where: str) -> PresetSpec:
    return find_named(presets, system, where, "system", "systems")


def _base(found: Any, preset: PresetSpec, name: str) -> str:
    where = f"handoff.yaml, systems.{name}"
    secret = reveal(found.base_secret)
    if secret:
        parts = urlsplit(secret)  # such an address may have its secret in the query
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.fragment or parts.username:
            raise ConfigError(f"{where}.base_secret: needs an address such as https://host.example/path")
        return secret
    try:
        return web_address(found.base or fill(preset.base, preset, found.variables), f"{where}.base")
    except KeyError as error:
        raise ConfigError(f"{where}.variables: {preset.name} needs {error.args[0]}") from None
