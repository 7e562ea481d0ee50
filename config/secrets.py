"""This module keeps secrets out of the configuration: files hold references, only a destination learns the value."""

import os
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel

from broker.errors import ConfigError
from config.findings import Finding
from config.marks import Keys, Marks, show

SANDBOX: Final = "sandbox"  # the one value that may be written out: it opens nothing but the sandbox
_REFERENCE: Final = re.compile(r"\$\{(?P<kind>[a-z]*):(?P<name>[^}]*?)(?::-(?P<default>[^}]*))?\}")
_SECRET_KEY: Final = re.compile(r"(?i)(?:.*[_-])?(?:token|password|passwd|passphrase|secret|api_?key|private_key)")
_LARGEST_FILE: Final = 64 * 1024  # bytes
_KINDS: Final = "${env:NAME}, ${file:/path} or ${keyring:name}"


class SecretError(ConfigError):
    """A secret cannot be had; ``code`` is a finding's, the text names the reference and never the value."""

    def __init__(self, code: str, text: str, hint: str = "") -> None:
        super().__init__(f"{text}; {hint}" if hint else text)
        self.code = code
        self.text = text
        self.hint = hint


class Secret:
    """A reference to a secret. Its value is looked up once, at `reveal`, and shows nowhere."""

    __slots__ = ("_value", "reference")

    def __init__(self, reference: str) -> None:
        self.reference = reference
        self._value: str | None = None

    def reveal(self, environment: Mapping[str, str] | None = None) -> str:
        """Return the value; raise `SecretError` when it cannot be had."""
        if self._value is None:
            self._value = resolve(self.reference, os.environ if environment is None else environment)
        return self._value

    def __repr__(self) -> str:
        """Name the reference, never the value."""
        return f"Secret({self.reference if _REFERENCE.fullmatch(self.reference) else '***'})"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        """Compare references."""
        return isinstance(other, Secret) and other.reference == self.reference

    def __hash__(self) -> int:
        """Hash the reference."""
        return hash(self.reference)

    def __reduce__(self) -> tuple[type["Secret"], tuple[str]]:
        """Copy and pickle the reference, never the value."""
        return Secret, (self.reference,)

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, _handler: Any) -> Any:
        """Let pydantic take the text of a reference for a secret."""
        from pydantic_core import core_schema  # noqa: PLC0415 - only needed while a Spec class is made

        return core_schema.no_info_after_validator_function(
            cls, core_schema.str_schema(), serialization=core_schema.plain_serializer_function_ser_schema(str)
        )


def resolve(reference: str, environment: Mapping[str, str]) -> str:
    """Return what a reference stands for; raise `SecretError` when that cannot be had."""
    found = _REFERENCE.fullmatch(reference)
    if found is None or not found["name"]:
        raise SecretError("E405", "this is not a reference to a secret", f"write {_KINDS}")
    if found["kind"] == "env":
        return _from_environment(found["name"], found["default"], environment)
    if found["default"] is not None:
        raise SecretError("E405", "only ${env:NAME} can have a default", f"remove :-{SANDBOX}")
    if found["kind"] == "file":
        return _from_file(found["name"])
    if found["kind"] == "keyring":
        hint = "use ${env:NAME} or ${file:/path} instead"
        raise SecretError("E404", f"keyrings are not available here ({reference})", hint)
    raise SecretError("E405", f'there is no kind of secret "{found["kind"]}"', f"write {_KINDS}")


def _from_environment(name: str, default: str | None, environment: Mapping[str, str]) -> str:
    if default is not None and default != SANDBOX:
        hint = f"the only default is {SANDBOX}: ${{env:{name}:-{SANDBOX}}}"
        raise SecretError("E401", "a default would be a secret written out", hint)
    value = environment.get(name) or default
    if not value:
        raise SecretError("E402", f"the environment variable {name} is not set", "set it before the start")
    return value


def _from_file(name: str) -> str:
    path = Path(name)
    if not path.is_absolute():
        raise SecretError("E405", f"the file of a secret needs an absolute path, found {name}")
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise SecretError("E403", f"{name} cannot be read ({error.strerror})") from None
    try:
        state = os.fstat(descriptor)
        if not stat.S_ISREG(state.st_mode) or state.st_size > _LARGEST_FILE:
            raise SecretError("E403", f"{name} is no file of at most {_LARGEST_FILE} bytes")
        if state.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise SecretError("E403", f"{name} can be read or changed by others", f"run chmod 600 {name}")
        data = os.read(descriptor, _LARGEST_FILE)
    finally:
        os.close(descriptor)
    try:
        value = data.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        raise SecretError("E403", f"{name} is not UTF-8") from None
    if not value:
        raise SecretError("E403", f"{name} is empty")
    return value


def open_secrets(value: Any, environment: Mapping[str, str]) -> None:
    """Look up every secret in a Spec, a list or a mapping, at any depth; raise as `Secret.reveal` does."""
    if isinstance(value, Secret):
        value.reveal(environment)
    elif isinstance(value, BaseModel):
        open_secrets(list(value.__dict__.values()), environment)
    elif isinstance(value, dict):
        open_secrets(list(value.values()), environment)
    elif isinstance(value, list | tuple):
        for inner in value:
            open_secrets(inner, environment)


def is_reference(text: str) -> bool:
    """Say whether a text is written as a reference to a secret."""
    return _REFERENCE.fullmatch(text) is not None


def _texts(value: Any, keys: Keys = ()) -> Iterator[tuple[Keys, Any]]:
    """Yield what stands under keys that name secrets, with those keys."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _texts(inner, (*keys, key))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _texts(inner, (*keys, number))
    elif value is not None and keys and isinstance(keys[-1], str) and _SECRET_KEY.fullmatch(keys[-1]):
        yield keys, value


def written_out(value: Any, marks: Marks) -> Iterator[Finding]:
    """Yield a finding, without the value, for every secret that a file holds itself."""
    for keys, text in _texts(value):
        if not is_reference(str(text)):
            hint = f"write a reference: {_KINDS}"
            yield marks.value(keys).finding("E401", f"{show(keys)} holds a secret itself", hint, secret=True)


def unavailable(value: Any, marks: Marks, environment: Mapping[str, str]) -> Iterator[Finding]:
    """Yield a finding for every reference below a secret's key that leads to no value."""
    for keys, text in _texts(value):
        if is_reference(str(text)):
            try:
                resolve(text, environment)
            except SecretError as error:
                hidden = error.code == "E401"
                yield marks.value(keys).finding(error.code, f"{show(keys)}: {error.text}", error.hint, secret=hidden)
