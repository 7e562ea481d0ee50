"""This module declares presets: what has to be known of a system on the web to deliver to it, as data.

Templates in a preset see ``event``, ``patient`` and the like, and the values that its operation declares. A key that
ends in ``?`` is left out where its value gives nothing; the key ``*`` takes in every key of the mapping beside it.
"""

import re
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import AfterValidator, Field, StringConstraints, field_validator, model_validator

from broker.spec import RESERVED_HEADERS, Bytes, Seconds, Spec

NAME: Final = r"^[a-z][a-z0-9]*(_[a-z0-9]+)*$"
DELIVERY_KEY: Final = "delivery_key"  # in templates: the delivery's idempotency key, the same for each attempt
FOUND: Final = "found"  # in templates of `find.update`: what the other side calls the one that is there
ROWS: Final = "{{ rows }}"  # in the body of an operation that takes several rows: the list of them


def _way(value: str) -> str:
    fixed = re.sub(r"\{\{.*?\}\}", "_", value)
    if fixed.startswith("/") or "://" in fixed or re.search(r"[\s\\#?]", fixed) or ".." in fixed.split("/"):
        raise ValueError("needs a path below the base, such as contacts/{{ key }}, without host, query or leading /")
    return value


def _ours_to_write(value: str) -> str:
    if value.removesuffix("?").lower() in RESERVED_HEADERS:
        raise ValueError("the transport writes this header itself; leave it out")
    return value


def _on_one_line(value: str) -> str:
    if re.search(r"[\x00-\x1f\x7f]", re.sub(r"\{\{.*?\}\}", "", value, flags=re.DOTALL)):
        raise ValueError("a header's value is one line, without control characters")
    return value


Name = Annotated[str, StringConstraints(pattern=NAME)]
Way = Annotated[str, AfterValidator(_way)]  # below the base: no host is ever in it
HeaderName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]+\??$"), AfterValidator(_ours_to_write)]
HeaderValue = Annotated[str, AfterValidator(_on_one_line)]
Status = Annotated[int, Field(ge=100, le=599)] | Literal["2xx", "3xx", "4xx", "5xx"]
Then = Literal["retry", "refresh", "unknown", "refused", "done"]


class VariableSpec(Spec):
    """A variable of a preset's addresses, such as a region, that `systems:` in handoff.yaml fills in."""

    about: str = Field(description="What it is, and where to find it.")
    default: str | None = Field(default=None, description="What it is where nothing is said; without it, it is needed.")
    example: str = Field(default="", description="What it may look like.")


class ValueSpec(Spec):
    """A value of an operation: what the preset says of it, a channel's `values:` may say otherwise."""

    about: str = Field(description="What it is.")
    default: Any = Field(
        default=None, description="A literal with holes, or keys and values; without it, it is needed."
    )
    optional: bool = Field(default=False, description="Whether it may give nothing.")

    @property
    def is_needed(self) -> bool:
        """Whether a channel has to give it."""
        return "default" not in self.model_fields_set and not self.optional


class RuleSpec(Spec):
    """One line of an error table: an answer that fits every condition means what `then` says."""

    status: list[Status] = Field(default=[], description="HTTP statuses: numbers, or 5xx for all of a class.")
    code: list[str | int] = Field(default=[], description="The other side's own codes (see `codes`).")
    says: list[str] = Field(default=[], description="Words of which one is in the other side's message, in any case.")
    then: Then = Field(
        description="retry (surely no effect, may work later), refresh (a new token, then once more), unknown (nobody "
        "knows), refused (for good) or done (it has taken effect already)."
    )
    wait: Seconds | None = Field(default=None, description="How long to wait where the answer does not say.")
    why: str = Field(default="", description="What it means, for the operator who reads the reason.")

    @model_validator(mode="after")
    def _says_when(self) -> "RuleSpec":
        if not (self.status or self.code or self.says):
            raise ValueError("needs a condition: `status`, `code` or `says`")
        return self


class WaitSpec(Spec):
    """A header with which the other side says how long to wait."""

    header: HeaderName = Field(description="The header's name.")
    unit: Literal["seconds", "milliseconds", "epoch", "time"] = Field(
        default="seconds", description="seconds, milliseconds, epoch (POSIX seconds) or time (ISO 8601 or HTTP's form)."
    )


class ErrorsSpec(Spec):
    """How the other side says what is wrong. Paths lead through JSON: `errors.0.code`."""

    codes: list[str] = Field(
        default=[], description="Paths to a code, with * for every item of a list; the first that leads to one counts."
    )
    passed_over: list[str] = Field(default=[], description="Codes that only say that something else went wrong.")
    messages: list[str] = Field(default=[], description="Paths to a message, for `says`; it is never repeated.")
    places: list[str] = Field(default=[], description="Paths to the name of the field at fault.")
    waits: list[WaitSpec] = Field(default=[], description="Headers besides Retry-After that say how long to wait.")
    rules: list[RuleSpec] = Field(
        default=[], description="What answers mean, the first that fits; else their status says it."
    )


class FailuresSpec(Spec):
    """Where an answer lists the rows that failed, apart from those that did not."""

    lists: list[str] = Field(description="Paths to lists, of keys or of errors.")
    keys: list[str] = Field(default=[""], description="Paths, in an item of a list, to the key of the row.")
    codes: list[str] = Field(default=[], description="Paths, in an item, to a code; else the name of the list is one.")


class SuccessSpec(Spec):
    """What success looks like; an answer of a good status that looks otherwise is no success."""

    status: list[Status] = Field(default=["2xx"], description="The good statuses.")
    form: Literal["any", "json"] = Field(default="any", description="json: an answer that is no JSON tells nothing.")
    rows: str | None = Field(default=None, description="Path to a list with one item for each row that was sent.")
    is_: dict[str, list[Any]] = Field(
        default={},
        alias="is",
        description="In the answer, or in each row: paths, and the values that are success; with * in a path all of "
        "the values that it leads to.",
    )
    sent: list[str] = Field(
        default=[], description="Paths, in a row that is sent, to its keys; without, rows are answered in their order."
    )
    got: list[str] = Field(default=[], description="Paths, in a row of the answer, to the same key.")
    failures: FailuresSpec | None = Field(default=None, description="Where failed rows are listed apart.")
    references: list[str] = Field(
        default=[], description="Paths to what the other side calls it; `header.location` is a header."
    )
    codes: list[str] = Field(default=[], description="Paths, in a row, to the code of its error.")
    messages: list[str] = Field(default=[], description="Paths, in a row, to the message of its error.")
    places: list[str] = Field(default=[], description="Paths, in a row, to the name of the field at fault.")
    rules: list[RuleSpec] = Field(default=[], description="What codes of rows mean; else a row is refused.")

    @property
    def needs_json(self) -> bool:
        """Whether an answer must be JSON to be understood."""
        return self.form == "json" or self.rows is not None or bool(self.is_) or self.failures is not None


class BatchSpec(Spec):
    """How several rows go out in one request."""

    size: int = Field(ge=1, le=2000, description="The most rows that the other side takes.")
    bytes: Bytes = Field(default=4 * 1024**2, ge=1024, description="The most bytes of all rows together.")
    form: Literal["list", "odata", "bulk"] = Field(
        default="list",
        description="list (`body` has {{ rows }}), odata (a $batch of OData, multipart/mixed) or bulk (a job of "
        "Salesforce's Bulk API 2.0, which `body` describes).",
    )
    patience: Seconds = Field(default=600.0, gt=0, description="How long a job may take.")


class UpdateSpec(Spec):
    """What is sent instead where a search found one that is there."""

    method: Literal["PUT", "PATCH", "POST"] = Field(description="The method.")
    path: Way = Field(description="The path; `{{ found }}` is what the other side calls the one that is there.")


class FindSpec(Spec):
    """A search that goes before each attempt, so that nothing is made twice."""

    path: Way = Field(description="The path of the search, which is a GET.")
    query: dict[str, str] = Field(default={}, description="Its query: names and values with holes.")
    rows: str | None = Field(default=None, description="Path to the list of what was found; else the answer is one.")
    id: str = Field(description="Path, in what was found, to what the other side calls it.")
    absent: list[Status] = Field(
        default=[404], description="Statuses that say that there is none; an empty list says so, too."
    )
    update: UpdateSpec | None = Field(default=None, description="What is sent then; without it, nothing needs doing.")


class OperationSpec(Spec):
    """One thing that a system can be asked to do: a request, and what its answers mean."""

    about: str = Field(default="", description="What it does, in one sentence.")
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"] = Field(default="POST", description="The method.")
    path: Way = Field(default="", description="The path below the base, with holes; what they give is percent-encoded.")
    query: dict[str, str] = Field(default={}, description="The query: names and values with holes.")
    headers: dict[HeaderName, HeaderValue] = Field(default={}, description="Headers: names and values with holes.")
    encoding: Literal["json", "form", "text"] = Field(default="json", description="How the body is written.")
    content_type: str | None = Field(
        default=None, pattern=r"^[\x21-\x7e ]+$", description="The body's media type, where it is another than usual."
    )
    body: Any = Field(default=None, description="The body: keys and values with holes. None: there is none.")
    row: Any = Field(default=None, description="One row, where the body takes several as {{ rows }}.")
    batch: BatchSpec | None = Field(default=None, description="How rows go out together.")
    values: dict[Name, ValueSpec] = Field(default={}, description="The values that a channel may give.")
    once: Literal["upsert", "key", "search", "read", "no"] = Field(
        default="no",
        description="Why a second attempt does no harm: the request is an upsert, the other side knows our key, a "
        "search goes before it, nothing is written; or `no`: an unknown outcome is held.",
    )
    key_header: HeaderName | None = Field(default=None, description="The header that takes the idempotency key.")
    find: FindSpec | None = Field(default=None, description="A search that goes before.")
    success: SuccessSpec = Field(default=SuccessSpec(), description="What success looks like.")
    rules: list[RuleSpec] = Field(default=[], description="What answers mean, before the preset's own rules.")
    tested: Literal["schema", "server", "facts", "memory", ""] = Field(
        default="",
        description="How it was tested: schema (a mock server over the vendor's own API description), server (a server "
        "of somebody else's), facts (our server, made from documented facts) or memory (our server, made from what its "
        "authors remember of the vendor's pages).",
    )
    PARTS: ClassVar[tuple[str, ...]] = ("path", "query", "headers", "body", "row")  # that hold templates

    @model_validator(mode="after")
    def _sensible(self) -> "OperationSpec":
        if (self.row is None) != (self.batch is None):
            raise ValueError("`row` and `batch` belong together")
        if self.batch is not None and self.batch.form == "list" and not _has_rows(self.body):
            raise ValueError(f'the body has no place for rows; write "{ROWS}" where the list of them belongs')
        if self.once == "search" and self.find is None:
            raise ValueError("`once: search` needs `find`")
        if self.batch is not None and (self.find is not None or self.encoding != "json"):
            raise ValueError("rows that go out together are JSON, and no search can go before them")
        if self.encoding == "form" and not isinstance(self.body, dict | None):
            raise ValueError("the body of a form needs keys and values")
        return self

    @property
    def is_repeatable(self) -> bool:
        """Whether a second attempt does no harm."""
        return self.once != "no"


class PresetSpec(Spec):
    """A system on the web: where it is, how it authenticates, what it can be asked, and what its answers mean."""

    preset: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", description="The preset's name; the file has the same.")
    name: str = Field(min_length=1, description="What people call the system.")
    about: str = Field(default="", description="What one should know of it, in a sentence or two.")
    sources: list[str] = Field(default=[], description="Where the vendor describes the API.")
    base: str = Field(default="", description="The address below which all paths are, with {variables}.")
    variables: dict[Name, VariableSpec] = Field(default={}, description="Variables of the addresses.")
    auth: dict[str, dict[str, Any]] = Field(
        default={}, description="Kinds of authentication that the system takes, and what is always the same of each."
    )
    signing: Literal["standard_webhooks"] | None = Field(
        default=None, description="How bodies are signed: with the `signing_secret` of the system."
    )
    headers: dict[HeaderName, HeaderValue] = Field(default={}, description="Headers of every request, as they are.")
    errors: ErrorsSpec = Field(default=ErrorsSpec(), description="How the system says what is wrong.")
    values: dict[Name, ValueSpec] = Field(
        default={}, description="Values of every operation whose templates read them."
    )
    operations: dict[Name, OperationSpec] = Field(default={}, description="What it can be asked to do.")
    unsupported: list[str] = Field(default=[], description="What the system can do, and this preset cannot.")

    @model_validator(mode="before")
    @classmethod
    def _share_values(cls, tree: Any) -> Any:
        """Give each operation the values of all that its templates read."""
        shared = tree.get("values") if isinstance(tree, dict) else None
        operations = tree.get("operations") if isinstance(tree, dict) else None
        if not isinstance(shared, dict) or not isinstance(operations, dict):
            return tree
        return tree | {"operations": {name: _with_shared(each, shared) for name, each in operations.items()}}

    @field_validator("base")
    @classmethod
    def _address(cls, value: str) -> str:
        if value and not re.fullmatch(r"https?://[^\s?#@]+", value):
            raise ValueError("needs an address such as https://{host}/api, without user name, query or fragment")
        return value


_HOLE: Final = re.compile(r"\{([a-z][a-z0-9_]*)\}")
VARIABLE: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")  # a label or host name: no port, no path


def variables_in(text: str) -> list[str]:
    """Return the names of the variables that a text of a preset uses."""
    return _HOLE.findall(text)


def fill(text: str, preset: PresetSpec, given: dict[str, str]) -> str:
    """Return a text of a preset with its variables filled in; raise `KeyError` where one is missing."""

    def one(found: re.Match[str]) -> str:
        name = found[1]
        value = given.get(name)
        if value is None:
            value = preset.variables[name].default
        if value is None:
            raise KeyError(name)
        return value

    return _HOLE.sub(one, text)


def _with_shared(operation: Any, shared: dict[str, Any]) -> Any:
    own = operation.get("values", {}) if isinstance(operation, dict) else None
    if not isinstance(own, dict):
        return operation
    texts = [text for key, inner in operation.items() if key != "values" for text in texts_in(inner)]
    read = {name: value for name, value in shared.items() if any(reads(text, name) for text in texts)}
    return operation | {"values": read | own}


def reads(text: str, name: str) -> bool:
    """Say whether a text has a hole that a value is read in."""
    return any(re.search(rf"\b{re.escape(name)}\b", hole) for hole in re.findall(r"\{[{%](.*?)[%}]\}", text, re.DOTALL))


def texts_in(tree: Any) -> Iterator[str]:
    """Give every text in a tree of JSON, keys too."""
    if isinstance(tree, str):
        yield tree
    elif isinstance(tree, dict):
        yield from tree
        yield from texts_in(list(tree.values()))
    elif isinstance(tree, list):
        for inner in tree:
            yield from texts_in(inner)


def _has_rows(tree: Any) -> bool:
    return ROWS in texts_in(tree)
