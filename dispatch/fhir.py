"""This module declares the destination ``fhir``, and renders what is frozen for every attempt.

That is the resource, Bundle or patch as it was rendered, and the search that finds what is there already.
`dispatch.fhir_server` sends it.
"""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal
from urllib.parse import parse_qsl, quote

import orjson
from pydantic import Field, field_validator, model_validator

from broker.errors import StepError
from broker.fhir.search import search_of
from broker.spec import DestinationSpec, Seconds, Template
from dispatch.fhir_bundle import BUNDLE, KINDS
from dispatch.fhir_check import faults, read_resource, warm
from dispatch.fhir_patch import read_patch
from dispatch.fhir_server import FhirServer, find_server

if TYPE_CHECKING:
    from broker.message import Document
    from broker.parts import Destination, Renderer, Tools

_RESOURCE: Final = re.compile(r"[A-Za-z]{2,60}")
_FORM: Final = re.compile(r"[A-Za-z0-9_.:-]{1,64}=.")
_COMMA: Final = re.compile(r"(?<!\\),")
_NO_VALUE: Final = re.compile(r"(.*[^\\])?\|", re.DOTALL)  # system| finds everything of that system


class FhirSpec(DestinationSpec):
    """A resource written to a FHIR R4 server of ``handoff.yaml``."""

    unknown: ClassVar[str] = "hold"

    server: str = Field(description="Name of the server, as under `servers:` in handoff.yaml.")
    resource: Template = Field(
        description="The resource: a name such as Patient, Encounter or Bundle writes the event the standard way; else "
        "JSON, as the path of a .j2 file or inline."
    )
    patch: Template | None = Field(
        default=None,
        description="JSON Patch (RFC 6902) for the one that `search` finds, as the path of a .j2 file or inline; "
        "`resource` then only names its type.",
    )
    search: Template | None = Field(
        default=None,
        description="How to find what is there already, such as `identifier={{ patient.mrn.system }}|{{ … }}`. "
        "Left out, a resource by name is found by its first identifier.",
    )
    zone: str | None = Field(
        default=None,
        description="IANA time zone of times that came without an offset, for a resource by name; without it only "
        "their day is written, because FHIR allows no local times.",
    )
    on_match: Literal["update", "keep"] = Field(default="update", description="What to do with the one that is there.")
    on_missing: Literal["create", "reject"] = Field(default="create", description="What to do where there is none.")
    validate_: bool = Field(default=True, alias="validate", description="Check the resource against the FHIR model.")
    concurrency: int = Field(default=8, ge=1, le=100, description="Requests under way at a time.")
    timeout: Seconds = Field(default=30.0, gt=0, description="How long the server may take to answer.")

    @field_validator("search")
    @classmethod
    def _searchable(cls, value: Template | None) -> Template | None:
        if value is not None and not _FORM.match(value):
            text = "needs name=value, such as identifier={{ patient.mrn.system }}|{{ patient.mrn.value }}"
            raise ValueError(text)
        return value

    def unknown_policy(self) -> str:
        """Return ``retry`` when a search can find what an earlier attempt did, else ``hold``.

        A patch may not be safe to apply twice (``add`` to a list), and a search cannot tell whether it was.
        """
        return "hold" if self.patch is not None or (self.search is None and not self.is_named) else "retry"

    @property
    def is_named(self) -> bool:
        """Tell whether ``resource`` is a name, and no template."""
        return _RESOURCE.fullmatch(self.resource.strip()) is not None

    @model_validator(mode="after")
    def _sensible(self) -> "FhirSpec":
        if self.zone is not None and not self.is_named:
            raise ValueError("zone belongs to a resource by name; in a template write event | fhir('…', zone='…')")
        if self.search is not None and self.resource.strip() == BUNDLE:
            raise ValueError("a Bundle has a search for each of its resources; leave `search` out")
        if self.on_missing == "reject" and (self.on_match == "keep" or not (self.search or self.is_named)):
            raise ValueError("on_missing: reject only updates; it needs a search and no on_match: keep")
        if self.patch is not None:
            self._check_patch()
        return self

    def _check_patch(self) -> None:
        if not self.is_named or self.resource.strip() == BUNDLE:
            raise ValueError("patch changes a resource of one type; write its name, such as resource: Appointment")
        if self.search is None:
            raise ValueError("patch needs to find what it changes; add search: identifier=… or _id=…")
        if self.on_match == "keep":
            raise ValueError("patch changes what is found, and on_match: keep leaves it alone; keep one of the two")

    def build(self, tools: "Tools") -> "Destination":
        """Build the sending half; raise `ConfigError` when the server is missing or incomplete."""
        return FhirServer(
            find_server(tools, self.server),
            timeout=self.timeout,
            concurrency=self.concurrency,
            keep=self.on_match == "keep",
            creates=self.on_missing == "create" and self.patch is None,
            repeatable=self.unknown_policy() == "retry",
        )

    def build_renderer(self, kit: Any) -> "Renderer":
        """Build the pure half: the resource checked, the search encoded."""
        if self.patch is not None:
            patch, search = kit.template(str(self.patch), kind="json"), kit.template(str(self.search), kind="search")
            return PatchRenderer(self.resource.strip(), patch, search)
        if self.is_named:
            resource = kit.resource(self.resource.strip(), self.zone)
        else:
            resource = kit.template(str(self.resource), kind="json")
        search = kit.template(str(self.search), kind="search") if self.search is not None else None
        if self.validate_ and not getattr(kit, "only_checks", False):  # a check renders nothing
            named = f'"resourceType": "{self.resource.strip()}"' if self.is_named else self.resource
            warm(str(getattr(resource, "text", named)))
        return ResourceRenderer(resource, search, check=self.validate_, own_search=self.is_named)


def encode_search(rendered: str) -> str:
    """Return a rendered search as it goes into an address: values are encoded already, what the analyst wrote is not.

    Raises `StepError` when a value is empty, because an empty value finds what it should not.
    """
    for name, value in parse_qsl(rendered, keep_blank_values=True):
        if any(not token or _NO_VALUE.fullmatch(token) for token in _COMMA.split(value)):
            raise StepError(f"fhir: the search value for {name!r} is empty for this message, so it would find too much")
    return quote(rendered, safe="%=&:/.,-_~")


@dataclass(frozen=True, slots=True)
class ResourceRenderer:
    """Renders ``{"resource": <JSON text>, "search": <encoded>, "type": …}``; decimals keep the digits they had."""

    resource: Any
    search: Any = None
    check: bool = True
    own_search: bool = False  # without ``search``, the resource is found by its own identifier

    def __call__(self, document: "Document") -> bytes:
        """Return the request; raise `StepError` when the resource is not JSON or not FHIR."""
        text = str(self.resource(document)).strip()
        resource = read_resource(text)
        if self.check:
            found = faults(resource)
            if found:
                message = f"fhir: the rendered {resource['resourceType']} is not valid: {'; '.join(found)}"
                raise StepError(message, location=found[0].partition(" ")[0])
        search = "" if self.search is None else encode_search(str(self.search(document)))
        if self.own_search and self.search is None and resource["resourceType"] != BUNDLE:
            search = search_of(resource)
        request = {"resource": text, "search": search, "type": resource["resourceType"]}
        if resource["resourceType"] == BUNDLE and resource.get("type") in KINDS:
            request |= {"bundle": resource["type"], "entries": len(resource.get("entry") or ())}
        return orjson.dumps(request)


@dataclass(frozen=True, slots=True)
class PatchRenderer:
    """Renders ``{"resource": <JSON Patch as text>, "search": <encoded>, "type": …, "patch": true}``."""

    kind: str
    patch: Any
    search: Any

    def __call__(self, document: "Document") -> bytes:
        """Return the request; raise `StepError` when the patch is none, or the search would find too much."""
        text = str(self.patch(document)).strip()
        read_patch(text)
        search = encode_search(str(self.search(document)))
        return orjson.dumps({"resource": text, "search": search, "type": self.kind, "patch": True})
