"""This module declares SOAP services: their operations, and where a message is in each; known ones are data.

Services are document/literal (WS-I Basic Profile 1.1, 4.7): the one element in a body says which operation is meant.
The presets are ``listeners/services/*.yaml``.
"""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Annotated, Final, Literal

import yaml
from pydantic import Field, model_validator

from broker.errors import MessageError
from broker.spec import Spec
from broker.wire.safe_xml import read_xml

FOLDER: Final = Path(__file__).with_name("services")
HOLE: Final = re.compile(r"\{\{\s*(.*?)\s*\}\}")
PAYLOAD: Final = "."
ASKED: Final = "request."
_NAME: Final = r"[^\W\d][\w.-]*"
_STEP: Final = rf"(\{{[^{{}}]+\}})?{_NAME}"
_HOLES: Final = ("acknowledgment", "message", "duplicate", "channel", "state", "reference", "response")
_BEGINS: Final = re.compile(rf"\s*<{_NAME}")
_BRINGS: Final = {"xml": "cda", "json": "json"}
_OF_NOTHING: Final = ("channel",)  # what there is to say where no message was taken

Name = Annotated[str, Field(pattern=f"^{_NAME}$")]
Uri = Annotated[str, Field(pattern=r"""^[^\s"'<>&{}]+$""")]
ElementPath = Annotated[str, Field(pattern=rf"^(\.|{_STEP}(/{_STEP})*)$")]
FaultKind = Literal["operation", "security", "too_large", "other"]


class ResponseSpec(Spec):
    """What an operation answers with: `fields`, or `xml`."""

    element: Name | None = Field(None, description="The element of the answer; without it, the operation's + Response.")
    fields: dict[Name, str] = Field(
        {},
        description="The elements in it, in order, and their text. Holes are `{{ acknowledgment }}` (HL7 v2), "
        "`{{ message }}` (our id), `{{ duplicate }}`, `{{ channel }}`, `{{ state }}`, `{{ request.name }}` (the text "
        "of an element of the request) and, of a delivery, `{{ reference }}` and `{{ response }}`.",
    )
    xml: str | None = Field(
        None,
        description="The whole element as XML, with the same holes, which are made safe for it; but `{{ response }}` "
        "goes in as the XML that it is.",
    )

    @model_validator(mode="after")
    def _is_one_of_both(self) -> "ResponseSpec":
        if self.xml is None:
            return self
        if self.fields or self.element:
            raise ValueError("an answer has `xml`, or `element` and `fields`")
        if not _BEGINS.match(self.xml):
            raise ValueError("`xml` begins with the element that is answered, such as <result>")
        try:
            self.root()
        except MessageError as error:
            raise ValueError(f"`xml` must be one element that can stand alone: {error}") from None
        return self

    def root(self) -> str:
        """Return the name of the element in `xml`, with the namespace that it says: ``{urn:a}result``, ``result``."""
        return read_xml(HOLE.sub("", self.xml or "").encode()).tag

    def holes(self) -> Iterator[str]:
        """Yield the names of all holes."""
        for text in (self.xml or "", *self.fields.values()):
            yield from HOLE.findall(text)


_OUR_ID: Final = ResponseSpec.model_validate({"fields": {"message": "{{ message }}"}})
_NOTHING: Final = ResponseSpec.model_validate({})


class OperationSpec(Spec):
    """One operation of a service."""

    element: Name | None = Field(None, description="The element that asks for it; without it, the operation's name.")
    action: Uri | None = Field(
        None, description="Its SOAPAction, for the WSDL; what a request says there decides nothing."
    )
    request: dict[Name, Literal["required", "optional"]] = Field(
        {}, description="The elements in a request, in order, and whether each must be there."
    )
    message: ElementPath | None = Field(
        None,
        description="Where the message is: names of elements below each other (`document/content`), or `.` for the "
        "whole request. Without it nothing is taken, and anybody is answered: a test of the connection.",
    )
    content: Literal["text", "base64", "xml", "json"] = Field(
        "text",
        description="What is there: the message as `text` or `base64`; the element itself, as `xml`, or written as "
        "`json`, in which attributes begin with @ and what comes several times is a list.",
    )
    lists: list[Name] = Field([], description="Elements that are a list in `json`, even where there is only one.")
    key: ElementPath | None = Field(
        None, description="Where a request says what makes a message the same as one before, such as an id."
    )
    login: list[ElementPath] | None = Field(
        None, min_length=2, max_length=2, description="Where a request has a caller's user, and where its password."
    )
    response: ResponseSpec | None = Field(
        None,
        description="What is answered; without it, our id in an element `message`, or nothing where none is taken.",
    )

    @model_validator(mode="after")
    def _fits_together(self) -> "OperationSpec":
        known = list(self.request)
        for path in self.paths():
            first = path.partition("/")[0]
            if known and path != PAYLOAD and not first.startswith("{") and first not in known:
                raise ValueError(f"{first} is not among the elements of `request` ({', '.join(known)})")
        if self.lists and self.content != "json":
            raise ValueError("`lists` goes with `content: json`")
        if self.message == PAYLOAD and self.content in {"text", "base64"}:
            raise ValueError(f"the whole request is no {self.content}: say `content: xml` or `json`")
        if self.message is None and (self.key or self.login or self.lists):
            raise ValueError("`key`, `login` and `lists` go with a `message`")
        self._see_holes(known)
        return self

    def _see_holes(self, known: list[str]) -> None:
        names = _HOLES if self.message is not None else _OF_NOTHING
        for name in self.answered.holes():
            asked = name.removeprefix(ASKED)
            if name == asked and name not in names:
                told = f"{', '.join(names)} and {ASKED}<element>"
                raise ValueError(f"an answer of this operation knows {told}, and not {name!r}")
            if name != asked and known and asked not in known:
                raise ValueError(f"{name}: {asked} is not among the elements of `request` ({', '.join(known)})")

    @property
    def answered(self) -> ResponseSpec:
        """What is answered, said or not."""
        if self.response is not None:
            return self.response
        return _OUR_ID if self.message is not None else _NOTHING

    def paths(self) -> tuple[str, ...]:
        """Return where something of a request is: its message, key, user and password."""
        return tuple(path for path in (self.message, self.key, *(self.login or ())) if path is not None)

    def texts(self) -> Iterator[str]:
        """Yield where a request has text: a key, a user, a password, and what an answer repeats."""
        yield from (path for path in (self.key, *(self.login or ())) if path is not None)
        yield from (name.removeprefix(ASKED) for name in self.answered.holes() if name.startswith(ASKED))

    def parts(self) -> list[tuple[str, bool]]:
        """Return the elements in a request, in order, and whether each must be there."""
        if self.request:
            return [(name, use == "required") for name, use in self.request.items()]
        firsts = dict.fromkeys(path.partition("/")[0] for path in self.paths())
        return [(name, True) for name in firsts if name != PAYLOAD and not name.startswith("{")]


class FaultSpec(Spec):
    """What a service has in the details of a fault."""

    element: Name = Field(description="The element; `Code`, `Reason` and `Detail` are in it.")
    reason: str = Field(description="What its `Reason` says.")


class ServiceSpec(Spec):
    """A SOAP service."""

    name: Name = Field("Service", description="Its name, for the WSDL.")
    namespace: Uri = Field(description="The namespace of its elements, such as urn:mercy:referrals.")
    versions: list[Literal["1.1", "1.2"]] = Field(
        ["1.1", "1.2"], min_length=1, description="The versions of SOAP that are taken; the WSDL begins with the first."
    )
    operations: dict[Name, OperationSpec] = Field(min_length=1, description="Its operations, by their names.")
    faults: dict[FaultKind, FaultSpec] = Field(
        {}, description="What is in the details of its faults, by what is at fault; `other` is the rest."
    )

    @model_validator(mode="after")
    def _is_clear(self) -> "ServiceSpec":
        asked = [operation.element or name for name, operation in self.operations.items()]
        twice = next((name for name in asked if asked.count(name) > 1), "")
        if twice:
            raise ValueError(f"two operations are asked for by the element {twice}")
        self._see_answers({fault.element for fault in self.faults.values()}.union(asked))
        if all(operation.message is None for operation in self.operations.values()):
            raise ValueError("no operation takes a message: say in one where its `message` is")
        if len(self.formats) > 1:
            raise ValueError(f"a channel has one format, and its operations bring {' and '.join(sorted(self.formats))}")
        return self

    def _see_answers(self, taken: set[str]) -> None:
        """See that each answer is an element of this service's own, and no other's."""
        answers: dict[str, ResponseSpec] = {}
        for name, operation in self.operations.items():
            element, response = self.answer_element(name), operation.answered
            if element in taken or answers.setdefault(element, response) != response:
                raise ValueError(f"{name} is answered with the element {element}, which is something else as well")
            space = response.root()[1:].rpartition("}")[0] if response.xml is not None else ""
            if space not in {"", self.namespace}:
                raise ValueError(f"{name} is answered with an element of namespace {space}, and not {self.namespace}")

    def answer_element(self, name: str) -> str:
        """Return the local name of the element that an operation is answered with."""
        response = self.operations[name].answered
        if response.xml is not None:
            return response.root().rpartition("}")[2]
        return response.element or f"{name}Response"

    @property
    def formats(self) -> frozenset[str]:
        """The format that its operations bring; none where they may bring any."""
        taking = [operation for operation in self.operations.values() if operation.message is not None]
        brought = {_BRINGS[operation.content] for operation in taking if operation.content in _BRINGS}
        is_acknowledged = any("acknowledgment" in operation.answered.holes() for operation in taking)
        return frozenset(brought | {"hl7"} if is_acknowledged else brought)


class KnownServiceSpec(ServiceSpec):
    """A service that several senders know: a preset."""

    title: str = Field(description="What it is called.")
    source: str = Field(description="Where its maker says so.")
    note: str = Field("", description="What somebody who sets it up must know.")


@cache
def services() -> tuple[str, ...]:
    """Return the names of all presets."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.yaml")))


@cache
def load_service(name: str) -> KnownServiceSpec:
    """Return a preset. Raises `ValueError` where there is none of this name, or its file is wrong."""
    if name not in services():
        raise ValueError(f"there is no preset {name!r}; known: {', '.join(services())}")
    return KnownServiceSpec.model_validate(yaml.safe_load((FOLDER / f"{name}.yaml").read_text()))
