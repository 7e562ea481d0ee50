"""This module writes the reference pages of presets: what each system can be asked, and what a preset may say."""

from collections.abc import Iterator, Mapping
from typing import Any, Final, get_args

from broker.spec import Spec
from dispatch.web import preset as declared
from dispatch.web.preset import OperationSpec, PresetSpec

ONCE: Final = {
    "upsert": "updates the same one",
    "key": "known by its key",
    "search": "a search goes before",
    "read": "changes nothing",
    "no": "**held**",
}
TESTED: Final = {
    "schema": "vendor's description",
    "server": "foreign server",
    "facts": "documented facts",
    "memory": "facts from memory",
    "": "not by us",
}
# The Specs of a preset's file, with the key that leads to each.
SPECS: Final[dict[str, type[Spec]]] = {
    "the file": declared.PresetSpec,
    "variables.<name>": declared.VariableSpec,
    "values.<name>": declared.ValueSpec,
    "operations.<name>": declared.OperationSpec,
    "operations.<name>.batch": declared.BatchSpec,
    "operations.<name>.find": declared.FindSpec,
    "operations.<name>.find.update": declared.UpdateSpec,
    "operations.<name>.success": declared.SuccessSpec,
    "operations.<name>.success.failures": declared.FailuresSpec,
    "errors": declared.ErrorsSpec,
    "errors.waits[]": declared.WaitSpec,
    "rules[]": declared.RuleSpec,
}

_HEAD: Final = """\
# Systems

What each system on the web can be asked, operation by operation, and how every way out was tested. A channel names the
system and the operation ([how](../howto/connect-systems.md)); a system that is not here takes
[a preset of your own](presets.md).
`handoff list presets --markdown` writes this page, `--json` the same for programs.

**A second attempt** is made when nobody knows whether the first one took effect. *Updates the same one*: the request is
an upsert by a key. *Known by its key*: the other side tells repeats by the key that goes along. *A search goes before*:
what an earlier attempt made is found. *Held*: a repeat would have a second effect, so an operator decides.

**Tested** by *vendor's description*: a mock server of somebody else's (Prism) holds each request to the vendor's own
API description, and refuses it with a mistake in it. By *documented facts*: a server of ours answers what the vendor's
pages say, success and errors. By *facts from memory*: the same, but nobody looked the pages up, so compare before you
rely on it. None was tested against a live account.

## Beside these systems

| destination | what it was tested with | not tried |
|---|---|---|
| `sms`, Twilio | vendor's description (Prism); documented facts: errors, receipts, replies, keywords | a live account |
| `sms`, Vonage SMS | vendor's description (Prism); documented facts: errors, receipts, replies | a live account |
| `sms`, Vonage Messages | documented facts | a live account; vendor's description |
| `sms`, SMPP 3.4 | node-smpp as SMSC; one of ours for throttling, partial answers, lost links | a carrier's SMSC |
| `sms`, generic gateway | a server of ours | |
| `email` | aiosmtpd, with and without TLS | a mail provider |
| `fhir` | Medplum's FHIR router; a server of ours for conflicts, ambiguous answers and OperationOutcomes | a live EHR |
| `fhir`, profiles of EHRs | the vendors' own CapabilityStatements | the EHRs themselves |
| `mllp` | python-hl7 and hl7apy as partners, a partner of ours for every acknowledgment and fault | |
| `sftp` | OpenSSH's server and asyncssh's | |
| `files` | file systems of Linux | SMB and NFS |
| `s3` | moto | AWS, MinIO |
| `database` | SQLite, PostgreSQL, MariaDB | SQL Server, Oracle |
| `channel`, `prm` | themselves, on SQLite and PostgreSQL | |

The systems that have presets follow. Values in bold are needed; the others have a default.
"""


def systems_page(presets: Mapping[str, PresetSpec]) -> str:
    """Return the page of all systems, in Markdown."""
    parts = [_HEAD, *("\n".join(_system(preset)) + "\n" for preset in presets.values())]
    return "\n".join(parts)


def _system(preset: PresetSpec) -> Iterator[str]:
    yield f"## {preset.name}"
    yield ""
    yield f"Preset `{preset.preset}`. {_cell(preset.about)}".rstrip()
    yield ""
    ways = ", ".join(f"`{kind}`" for kind in preset.auth) or "whatever the receiver wants"
    signed = "; bodies are signed (`signing_secret`)" if preset.signing else ""
    yield f"- Authentication: {ways}{signed}."
    if preset.base:
        yield f"- Address: `{preset.base}`."
    for name, variable in preset.variables.items():
        default = f" Default `{variable.default}`." if variable.default is not None else ""
        example = f" Such as `{variable.example}`." if variable.example else ""
        yield f"- Variable `{name}`: {_cell(variable.about)}{default}{example}"
    yield ""
    yield "| operation | what it does | request | values | rows | a second attempt | tested |"
    yield "|---|---|---|---|---|---|---|"
    for name, operation in preset.operations.items():
        yield _operation(name, operation)
    if preset.unsupported:
        yield ""
        yield "Not supported:"
        yield ""
        yield from (f"- {_cell(text)}" for text in preset.unsupported)
    if preset.sources:
        yield ""
        yield "Facts from: " + ", ".join(f"<{source}>" for source in preset.sources)


def _operation(name: str, operation: OperationSpec) -> str:
    rows = str(operation.batch.size) if operation.batch else "1"
    values = ", ".join(f"**`{key}`**" if value.is_needed else f"`{key}`" for key, value in operation.values.items())
    request = f"`{operation.method} {operation.path}`" if operation.path else f"`{operation.method}`"
    cells = (f"`{name}`", operation.about, request, values, rows, ONCE[operation.once], TESTED[operation.tested])
    return "| " + " | ".join(_cell(cell) for cell in cells) + " |"


def keys_tables() -> str:
    """Return the tables of everything that a preset's file may say, in Markdown."""
    return "\n".join("\n".join(_keys(place, spec)) for place, spec in SPECS.items())


def _keys(place: str, spec: type[Spec]) -> Iterator[str]:
    yield f"### {place}"
    yield ""
    yield " ".join((spec.__doc__ or "").split())
    yield ""
    yield "| key | default | meaning |"
    yield "|---|---|---|"
    for name, field in spec.model_fields.items():
        default = "needed" if field.is_required() else _default(field.default)
        words = [each for each in get_args(field.annotation) if isinstance(each, str)]
        meaning = (field.description or "") + (
            f" One of {', '.join(f'`{word}`' for word in words if word)}." if words else ""
        )
        yield f"| `{field.alias or name}` | {default} | {_cell(meaning)} |"
    yield ""


def _default(value: Any) -> str:
    if value in (None, "", [], {}) or isinstance(value, Spec):
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
