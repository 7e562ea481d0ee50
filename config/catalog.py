"""This module lists every part that a channel can use: listeners, formats, steps and destinations, each by its word.

A part's module is loaded when the word is first used. Other packages add parts through entry points of the groups
``handoff.listener``, ``handoff.format``, ``handoff.step`` and ``handoff.destination``.
"""

from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Final, Generic, TypeVar

from broker.errors import ConfigError
from broker.spec import DestinationSpec, FormatSpec, ListenerSpec, Spec, StepSpec

S = TypeVar("S", bound=Spec)


class Parts(Mapping[str, type[S]], Generic[S]):
    """The parts of one kind: name -> Spec class."""

    def __init__(self, kind: str, base: type[S], places: dict[str, str]) -> None:
        self.kind = kind
        self._base = base
        self._own = places
        self._all: dict[str, str] | None = None
        self._loaded: dict[str, type[S]] = {}

    def __getitem__(self, name: str) -> type[S]:
        """Return the Spec of a name; raise `ConfigError` when what stands behind the name is no such Spec."""
        if name not in self._loaded:
            place = self._places()[name]
            module, _, attribute = place.partition(":")
            try:
                spec = getattr(import_module(module), attribute)
            except (ImportError, AttributeError) as error:
                message = f"the {self.kind} {name!r} cannot be loaded from {place}: {error}"
                raise ConfigError(message) from error
            if not (isinstance(spec, type) and issubclass(spec, self._base)):
                message = f"the {self.kind} {name!r}: {place} is not a {self._base.__name__}"
                raise ConfigError(message)
            self._loaded[name] = spec
        return self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names."""
        return iter(self._places())

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._places())

    def __contains__(self, name: object) -> bool:
        """Say whether there is such a name, without loading it."""
        return name in self._places()

    def _places(self) -> dict[str, str]:
        if self._all is None:
            places = dict(self._own)
            for entry in _entry_points().select(group=f"handoff.{self.kind}"):
                if places.get(entry.name, entry.value) != entry.value:
                    message = f"two {self.kind}s are called {entry.name!r}: {places[entry.name]} and {entry.value}"
                    raise ConfigError(f"{message}; remove one of the packages")
                places[entry.name] = entry.value
            self._all = places
        return self._all


@cache
def _entry_points() -> Any:
    """Return those of every package that is installed; finding them takes 20 ms."""
    return entry_points()


FORMATS: Final[Parts[FormatSpec]] = Parts(
    "format",
    FormatSpec,
    {
        "hl7": "broker.formats.hl7:Hl7Spec",
        "csv": "broker.formats.delimited:CsvSpec",
        "fixed": "broker.formats.fixed:FixedSpec",
        "json": "broker.formats.tree:JsonSpec",
        "ndjson": "broker.formats.tree:NdjsonSpec",
        "fhir": "broker.formats.tree:FhirSpec",
        "cda": "broker.formats.cda:CdaSpec",
        "text": "broker.formats.text:TextSpec",
    },
)
LISTENERS: Final[Parts[ListenerSpec]] = Parts(
    "listener",
    ListenerSpec,
    {
        "mllp": "listeners.mllp:MllpSpec",
        "tcp": "listeners.tcp:TcpSpec",
        "files": "listeners.files:FilesSpec",
        "sftp": "listeners.sftp:SftpSpec",
        "s3": "listeners.s3:S3InSpec",
        "channel": "listeners.channel:ChannelInSpec",
        "texts": "listeners.texts:TextsSpec",
        "http": "listeners.http:HttpSpec",
        "fhir": "listeners.fhir:FhirSpec",
        "soap": "listeners.soap:SoapSpec",
        "webhook": "listeners.webhook:WebhookSpec",
        "callbacks": "listeners.callbacks:CallbacksSpec",
        "timer": "listeners.timer:TimerSpec",
        "database": "listeners.database:DatabaseInSpec",
        "fhir_search": "listeners.fhir_search:FhirSearchSpec",
        "imap": "listeners.imap:ImapSpec",
        "fhir_export": "listeners.fhir_export:FhirExportSpec",
    },
)
STEPS: Final[Parts[StepSpec]] = Parts(
    "step",
    StepSpec,
    {
        "validate": "transforms.validate:ValidateSpec",
        "filter": "transforms.filter:FilterSpec",
        "set": "transforms.set:SetSpec",
        "canonical": "transforms.canonical:CanonicalSpec",
        "script": "transforms.script:ScriptSpec",
    },
)
DESTINATIONS: Final[Parts[DestinationSpec]] = Parts(
    "destination",
    DestinationSpec,
    {
        "prm": "dispatch.prm:PrmSpec",
        "sms": "dispatch.sms:SmsSpec",
        "email": "dispatch.email:EmailSpec",
        "fhir": "dispatch.fhir:FhirSpec",
        "http": "dispatch.web.spec:HttpSpec",
        "mllp": "dispatch.mllp:MllpOutSpec",
        "files": "dispatch.files:FilesOutSpec",
        "sftp": "dispatch.sftp:SftpOutSpec",
        "s3": "dispatch.s3:S3OutSpec",
        "database": "dispatch.database:DatabaseOutSpec",
        "channel": "dispatch.channel:ChannelOutSpec",
        "answer": "dispatch.answer:AnswerOutSpec",
    },
)
