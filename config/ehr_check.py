"""This module refuses, before anything runs, what a channel wants of a FHIR server that does not take it.

What a server takes is said by its profile, or by the CapabilityStatement that a site saved.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Final
from urllib.parse import parse_qsl

from broker.errors import ConfigError
from config.channel import DeliverPlan
from config.findings import Finding
from config.marks import Keys, Marks
from config.settings import Settings
from dispatch.ehr_profile import EhrProfile
from dispatch.fhir import FhirSpec
from dispatch.fhir_bundle import BUNDLE, KINDS
from dispatch.fhir_server import profile_of

_TYPE: Final = re.compile(r'"resourceType"\s*:\s*"([A-Z][A-Za-z]+)"')
_BUNDLE_TYPE: Final = re.compile(rf'"type"\s*:\s*"({"|".join(KINDS)})"')
_HOLE: Final = re.compile(r"\{\{.*?\}\}", re.DOTALL)


def check_writes(plan: DeliverPlan, files: Mapping[str, bytes], settings: Settings, marks: Marks) -> Iterator[Finding]:
    """Yield what the server of a ``fhir`` destination does not take; ``files`` are the templates, by path."""
    spec = plan.spec
    if not isinstance(spec, FhirSpec) or spec.server not in settings.servers:
        return
    keys: Keys = ("deliver", plan.name, plan.kind)
    try:
        profile = profile_of(settings.servers[spec.server], settings.root)
    except ConfigError as error:
        yield marks.value((*keys, "server")).finding("E309", f"server {spec.server}: {error}")
        return
    written = _Written(spec, files)
    if written.kind:
        yield from _refused(written, profile, marks, keys)


class _Written:
    """What a destination writes, as far as that can be seen without a message."""

    def __init__(self, spec: FhirSpec, files: Mapping[str, bytes]) -> None:
        self.spec = spec
        text = "" if spec.is_named else _text(str(spec.resource), files)
        found = _TYPE.search(text)
        self.kind = spec.resource.strip() if spec.is_named else found[1] if found else ""
        self._bundle = _BUNDLE_TYPE.search(text)

    def interactions(self) -> Iterator[tuple[str, str]]:
        """Give each interaction with the key of the option that leads to it."""
        spec = self.spec
        if self.kind == BUNDLE:
            if spec.is_named or self._bundle:
                yield ("transaction" if spec.is_named or self._bundle is None else self._bundle[1]), "resource"
        elif spec.patch is not None:
            yield "patch", "patch"
        else:
            if spec.on_missing == "create":
                yield "create", "resource"
            if (spec.search is not None or spec.is_named) and spec.on_match == "update":
                yield "update", "resource"

    def parameters(self) -> Iterator[str]:
        """Give the names of the search parameters that find what is there."""
        if self.kind == BUNDLE:
            return
        if self.spec.search is not None:
            yield from (name for name, _ in parse_qsl(_HOLE.sub("x", self.spec.search), keep_blank_values=True))
        elif self.spec.is_named:
            yield "identifier"


def _text(template: str, files: Mapping[str, bytes]) -> str:
    content = files.get(template.strip())
    return template if content is None else content.decode("utf-8", "replace")


def _refused(written: _Written, profile: EhrProfile, marks: Marks, keys: Keys) -> Iterator[Finding]:
    wanted = list(written.interactions())
    refused = [(interaction, key) for interaction, key in wanted if not profile.allows(written.kind, interaction)]
    place = marks.value((*keys, refused[0][1] if refused else "search"))
    if refused:
        hint = _way_out(written.kind, profile, [interaction for interaction, _ in refused], len(wanted))
        yield place.finding("E309", profile.refusal(written.kind, refused[0][0]), hint)
    else:
        yield from _unfindable(written, profile, marks, keys)


def _way_out(kind: str, profile: EhrProfile, refused: list[str], wanted: int) -> str:
    """Say what works instead: half of what was wanted, where the server takes that, or another way."""
    other = profile.instead.get(kind, "")
    if refused == ["update"] and wanted > 1:
        patching = ", or `patch:` what changed" if profile.allows(kind, "patch") else ""
        return f"write on_match: keep, which leaves what is there{patching}" + (f"; {other}" if other else "")
    if refused == ["create"] and wanted > 1:
        return "write on_missing: reject, which only updates" + (f"; {other}" if other else "")
    return profile.advice(kind)


def _unfindable(written: _Written, profile: EhrProfile, marks: Marks, keys: Keys) -> Iterator[Finding]:
    unknown = [name for name in written.parameters() if not profile.finds(written.kind, name)]
    if unknown:
        own = written.spec.search is not None
        place = marks.value((*keys, "search" if own else "resource"))
        text = f"{profile.system} does not find {written.kind} by {unknown[0]}"
        names = ", ".join(profile.searches.get(written.kind, ())) or "_id only"
        hint = f"it finds it by {names}" if own else f"add `search:` with one of {names}"
        yield place.finding("E309", text, hint)
