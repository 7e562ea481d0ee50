"""This module declares the systems of handoff.yaml: what each is a preset of, where it is, and how it is authorised."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import Field

from broker.spec import Spec
from broker.tls import OwnTls
from config.address import Address
from config.auth import AuthSpec
from config.channel import DeliverPlan
from config.findings import Finding, did_you_mean
from config.marks import Keys, Marks, show
from config.presets import preset_files, read_preset
from config.secrets import Secret
from dispatch.web.preset import VARIABLE, PresetSpec, fill, texts_in, variables_in
from dispatch.web.signature import signing_key

PLAIN: Final = "json"  # the preset of a system that needs none


class SystemSpec(Spec):
    """A system on the web that channels deliver to: a CRM, a help desk, a webhook."""

    preset: str = Field(default=PLAIN, description="What kind of system it is: see `handoff list presets`.")
    base: Address | None = Field(default=None, description="Its base address, where the preset's is not the right one.")
    base_secret: Secret | None = Field(
        default=None, description="Its address as a reference, where the address itself is a secret (Slack, Teams)."
    )
    variables: dict[str, str] = Field(default={}, description="Variables of the preset's addresses, such as a region.")
    auth: AuthSpec | None = Field(default=None, description="How requests are authorised.")
    tls: OwnTls = None
    signing_secret: Secret | None = Field(
        default=None, description="The secret that bodies are signed with, as a reference, where the preset signs."
    )


def with_defaults(value: dict[str, Any], root: Path) -> None:
    """Put what presets know of authentication below what handoff.yaml says, so that it is read as one."""
    systems = value.get("systems")
    if not isinstance(systems, dict):
        return
    files = preset_files(root / str(value.get("channels") or "channels"))
    for entry in systems.values():
        auth = entry.get("auth") if isinstance(entry, dict) else None
        path = files.get(str(entry.get("preset", PLAIN))) if isinstance(entry, dict) else None
        preset = read_preset(path).preset if path is not None and isinstance(auth, dict) and auth else None
        if preset is None or not isinstance(auth, dict):
            continue
        variables = entry.get("variables") if isinstance(entry.get("variables"), dict) else {}
        for kind, given in auth.items():
            if kind in preset.auth and isinstance(given, dict | None):
                auth[kind] = _filled(preset.auth[kind], preset, variables) | (given or {})


def _filled(defaults: Mapping[str, Any], preset: PresetSpec, variables: Mapping[str, Any]) -> dict[str, Any]:
    known = {name: str(text) for name, text in variables.items()}
    filled: dict[str, Any] = {}
    for name, default in defaults.items():
        try:
            if isinstance(default, dict):
                filled[name] = {key: fill(text, preset, known) for key, text in default.items()}
            else:
                filled[name] = fill(default, preset, known) if isinstance(default, str) else default
        except KeyError:
            filled[name] = default  # a variable is missing, which is told by itself
    return filled


def check_systems(systems: Mapping[str, SystemSpec], channels: Path, marks: Marks) -> Iterator[Finding]:
    """Give what is wrong with systems by what their presets say."""
    files = preset_files(channels) if systems else {}
    for name, system in systems.items():
        keys: Keys = ("systems", name)
        path = files.get(system.preset)
        if path is None:
            text = f'{show(keys)} names the preset "{system.preset}", which is not there'
            hint = did_you_mean(system.preset, files) or f"put it into {channels.name}/presets/"
            yield marks.value((*keys, "preset")).finding("E301", text, hint)
            continue
        found = read_preset(path)
        yield from found.findings
        if found.preset is not None:
            yield from _Checking(system, found.preset, keys, marks).findings()


class _Checking:
    """Compares one system with its preset."""

    def __init__(self, system: SystemSpec, preset: PresetSpec, keys: Keys, marks: Marks) -> None:
        self._system = system
        self._preset = preset
        self._keys = keys
        self._marks = marks

    def findings(self) -> Iterator[Finding]:
        yield from self._variables()
        yield from self._address()
        yield from self._auth()
        yield from self._signing()

    def _kind(self) -> str:
        return next((name for name in AuthSpec.model_fields if getattr(self._system.auth, name, None) is not None), "")

    def _variables(self) -> Iterator[Finding]:
        preset, keys = self._preset, (*self._keys, "variables")
        for name, value in self._system.variables.items():
            if name not in preset.variables:
                hint = did_you_mean(name, preset.variables) or "it has none"
                text = f"{preset.name} has no variable {name}"
                yield self._marks.key((*keys, name)).finding("E104", text, hint)
            elif not VARIABLE.fullmatch(value):
                text = f"{show((*keys, name))} needs letters, digits, dots, hyphens and underscores, as in a host name"
                yield self._marks.value((*keys, name)).finding("E107", text)
        moved = self._system.base is not None or self._system.base_secret is not None
        texts = ["" if moved else preset.base, *texts_in(preset.auth.get(self._kind(), {}))]
        for name in dict.fromkeys(name for text in texts for name in variables_in(text)):
            spec = preset.variables[name]
            if spec.default is None and name not in self._system.variables:
                text = f'{show(keys)} needs the key "{name}"'
                yield self._marks.key(keys).finding("E105", text, f"{spec.about} Such as {spec.example}.")

    def _address(self) -> Iterator[Finding]:
        system = self._system
        if system.base is not None and system.base_secret is not None:
            text = f"{show(self._keys)} has base and base_secret; it can have only one address"
            yield self._marks.key((*self._keys, "base_secret")).finding("E110", text)
        elif not self._preset.base and system.base is None and system.base_secret is None:
            text = f'{show(self._keys)} needs the key "base"'
            hint = f"where {self._preset.name} is; or `base_secret:`, where that is a secret"
            yield self._marks.key(self._keys).finding("E105", text, hint)

    def _auth(self) -> Iterator[Finding]:
        preset, auth = self._preset, self._system.auth
        allowed = ", ".join(preset.auth)
        if auth is None:
            if preset.auth and "none" not in preset.auth:
                text = f'{show(self._keys)} needs the key "auth"'
                yield self._marks.key(self._keys).finding("E105", text, f"{preset.name} takes {allowed}")
            return
        kind = self._kind()
        if preset.auth and kind not in preset.auth:
            text = f"{preset.name} does not take auth.{kind}"
            yield self._marks.key((*self._keys, "auth", kind)).finding("E107", text, f"allowed: {allowed}")

    def _signing(self) -> Iterator[Finding]:
        secret, wanted = self._system.signing_secret, self._preset.signing is not None
        keys = (*self._keys, "signing_secret")
        if wanted and secret is None:
            text = f'{show(self._keys)} needs the key "signing_secret"'
            yield self._marks.key(self._keys).finding("E105", text, f"{self._preset.name} signs what is sent")
        elif secret is not None and not wanted:
            text = f"{self._preset.name} does not sign what is sent"
            yield self._marks.key(keys).finding("E104", text, "remove signing_secret")


def check_signing(systems: Mapping[str, SystemSpec], marks: Marks) -> Iterator[Finding]:
    """Give what is wrong with opened signing secrets, without showing them."""
    for name, system in systems.items():
        if system.signing_secret is not None:
            try:
                signing_key(system.signing_secret.reveal())
            except ValueError as error:
                keys: Keys = ("systems", name, "signing_secret")
                yield marks.key(keys).finding("E107", f"{show(keys)}: {error}")


def check_operation(plan: DeliverPlan, preset: PresetSpec, marks: Marks) -> Iterator[Finding]:
    """Give what is wrong with the operation and the values that a destination asks of its system."""
    spec, keys = plan.spec, ("deliver", plan.name, plan.kind)
    name, operation = getattr(spec, "operation", None), getattr(spec, "request", None)
    if operation is None:
        operation = preset.operations.get(str(name))
    if operation is None:
        text = f"{preset.name} has no operation {name}"
        hint = did_you_mean(str(name), preset.operations) or "write `request:` with one of your own"
        yield marks.value((*keys, "operation")).finding("E321", text, hint)
        return
    given = getattr(spec, "values", {})
    for value in given:
        if value not in operation.values:
            text = f"{show((*keys, 'values'))}: there is no value {value} here"
            yield marks.key((*keys, "values", value)).finding("E321", text, did_you_mean(value, operation.values))
    for value, about in operation.values.items():
        if about.is_needed and value not in given:
            text = f'{show(keys)} needs the value "{value}"'
            yield marks.key(keys).finding("E321", text, f"write `values: {{{value}: …}}`: {about.about}")
