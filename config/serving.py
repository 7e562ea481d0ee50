"""This module says where operators and practice are served, who could get at that, and what is left open besides."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import Field

from broker.errors import NotReady
from broker.hosts import is_loopback
from broker.spec import Endpoint, Spec
from config.findings import Finding
from config.marks import Marks

SANDBOX: Final = "${sandbox}"  # in the base of a gateway or server: the sandbox's address

_WITH_BASES: Final = ("gateways", "servers")


class ConsoleTls(Spec):
    """The certificate that the console shows."""

    certificate: str = Field(min_length=1, description="File (PEM) with our certificate, then those that vouch for it.")
    key: str = Field(min_length=1, description="File (PEM) with its private key, which only we may read.")


class ConsoleSpec(Spec):
    """The operators' console."""

    endpoint: Endpoint = Field(default="127.0.0.1:8080", description="Where the console is served.")
    tls: ConsoleTls | None = Field(default=None, description="TLS, and the certificate to show.")
    unprotected: str = Field(
        default="",
        description="Why it is safe to let other machines in without TLS, such as `a proxy on this host ends TLS`; "
        "without `tls` and without a reason the console takes loopback addresses only.",
    )


class SandboxSpec(Spec):
    """The practice gateway and EHR."""

    endpoint: Endpoint = Field(default="127.0.0.1:8090", description="Where the sandbox is served.")
    enabled: bool = Field(default=True, description="Whether the engine starts it.")


def name_sandbox(value: dict[str, Any], marks: Marks) -> Iterator[Finding]:
    """Put the sandbox's address where ``base: ${sandbox}/fhir`` asks for it, so that one setting moves all three.

    Yields a warning for each that asks for a sandbox which the engine does not start.
    """
    sandbox = value.get("sandbox")
    given = sandbox if isinstance(sandbox, dict) else {}
    address = f"http://{given.get('endpoint') or SandboxSpec().endpoint}"
    for kind in _WITH_BASES:
        entries = value.get(kind)
        for name, entry in entries.items() if isinstance(entries, dict) else ():
            if isinstance(entry, dict) and isinstance(entry.get("base"), str) and SANDBOX in entry["base"]:
                entry["base"] = entry["base"].replace(SANDBOX, address)
                if given.get("enabled") is False:
                    text = (
                        f"{kind}.{name}.base is the sandbox, which the engine does not start: what is sent there waits"
                    )
                    hint = "write where it really is, or enable the sandbox"
                    yield marks.value((kind, name, "base")).finding("E301", text, hint, "warning")


def sandbox_accounts(sandbox: SandboxSpec, gateways: Mapping[str, Any]) -> dict[str, str]:
    """Return the accounts of the gateways that are the sandbox, with their tokens, as their owner would know them."""
    address = f"http://{sandbox.endpoint}"
    return {
        gateway.account: gateway.token.reveal()
        for gateway in gateways.values()
        if gateway.kind == "twilio" and gateway.base.rstrip("/") == address
    }


def check_open(spec: Any, marks: Marks, root: Path) -> Iterator[Finding]:
    """Yield what is left open to others: the console, the sandbox, or to scripts the data folder.

    ``spec`` is a `config.settings.SettingsSpec`; relative paths start at ``root``.
    """
    console: ConsoleSpec = spec.console
    if console.tls is not None:
        try:
            certificates(console.tls, root, lambda _: None).load()
        except NotReady as error:
            yield marks.key(("console", "tls")).finding("E408", str(error))
    elif not console.unprotected:
        hint = "add `tls` to `console`, or say in its `unprotected` why it is safe"
        yield from _wide("console", console.endpoint, "without TLS", hint, marks)
    if spec.sandbox.enabled:
        hint = "write 127.0.0.1 and a port"
        yield from _wide("sandbox", spec.sandbox.endpoint, "and is for practice on this one", hint, marks)
    channels = (root / spec.channels).resolve()
    for key in ("data", "store", "patients"):
        path = _file(getattr(spec, key), root)
        if path is not None and path.is_relative_to(channels):
            text = f"{key} lies in the folder of channels, which their scripts may read"
            yield marks.value((key,)).finding("E409", text, "put it elsewhere")


def _wide(word: str, endpoint: str, why: str, hint: str, marks: Marks) -> Iterator[Finding]:
    if not is_loopback(endpoint.rpartition(":")[0].strip("[]")):
        text = f"{word}.endpoint: {endpoint} lets other machines in {why}"
        yield marks.value((word, "endpoint")).finding("E409", text, hint)


def certificates(tls: ConsoleTls, root: Path, on_trouble: Any) -> Any:
    """Return what keeps the console's certificate fresh; ``on_trouble`` is told why a renewed one cannot be used."""
    from listeners.http_tls import HttpCertificates  # noqa: PLC0415 - costs much, and few consoles have one
    from listeners.tls import TlsSpec  # noqa: PLC0415 - likewise

    spec = TlsSpec(certificate=tls.certificate, key=tls.key).below(root)
    return HttpCertificates(spec, "console.tls", on_trouble)


def _file(place: str | None, root: Path) -> Path | None:
    """Return where the data folder or an SQLite database is; nothing for what is not given, or no file."""
    path = (place or "").removeprefix("sqlite:///")
    return (root / path).resolve() if path and "://" not in path else None
