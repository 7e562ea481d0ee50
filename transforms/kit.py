"""This module lends the parts of a channel what compiles their expressions, templates and scripts."""

import copy
import hashlib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from types import CodeType, FunctionType, ModuleType
from typing import Any, Final, TypeVar

from broker.formats.hl7 import Hl7
from broker.formats.reading import Format
from broker.message import Document
from transforms.expression import Compiled, compile_expression
from transforms.jinja_events import mistake_in
from transforms.mistakes import ExpressionError, nearest
from transforms.profile import Profile
from transforms.scope import event_of
from transforms.script import ScriptError, View
from transforms.template import Rendering, compile_template, compile_value
from transforms.to_fhir import as_text, fhir_of

_SUFFIX: Final = ".j2"
# read_profile(content, name, version of HL7 or nothing) -> the profile; it raises a HandoffError.
ReadProfile = Callable[[bytes, str, str], Profile]

C = TypeVar("C", Compiled, Rendering)


class Kit:
    """Compiles for one channel; ``folder`` is where its templates and scripts are, ``format`` what its messages are.

    ``read_profile`` reads profiles, which are YAML; ``presets`` are those of the systems that the channel names. Steps
    are built in order, and `declare` makes the names of a `set` known to what is built later.
    """

    def __init__(
        self,
        folder: Path,
        form: Format | None = None,
        read_profile: ReadProfile | None = None,
        presets: Mapping[str, Any] | None = None,
    ) -> None:
        self.folder = folder
        self.format = form or Hl7()
        self.presets: Mapping[str, Any] = presets or {}
        self._read_profile = read_profile
        self._names: list[str] = []
        self._known: dict[str, Any] = dict(self.format.names)  # all names, and what is known of their values
        self._scripts: dict[Path, ModuleType] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """The names that `set` steps have given so far."""
        return tuple(self._names)

    def declare(self, name: str) -> None:
        """Make a name known to expressions and templates that are compiled from now on."""
        if name in self.format.names:
            raise _mistake(name, f"{name} has a meaning already in {self.format.kind}", "use another name")
        self._names.append(name)
        self._known[name] = None

    def knowing(self, *names: str, own: bool = False) -> "Kit":
        """Return a kit for texts that know these names, and with ``own`` the channel's own as well."""
        other = copy.copy(self)
        other._names = []  # noqa: SLF001 - our own copy
        other._known = (self._known if own else {}) | dict.fromkeys(names)  # noqa: SLF001 - likewise
        return other

    def expression(self, text: str) -> Compiled:
        """Compile an expression; raise `ExpressionError` for a mistake."""
        return self._fitting(compile_expression(text, self._known))

    def template(self, text: str, kind: str = "text") -> Rendering:
        """Compile a template, or the file below `folder` that a path ending in ``.j2`` names.

        Raises `ExpressionError` for a mistake, with ``file`` set where the template is a file.
        """
        if not _is_path(text):
            return self._fitting(compile_template(text, kind, self._known))
        content = self._read(text)
        try:
            rendering = self._fitting(compile_template(content, kind, self._known))
        except ExpressionError as error:
            error.file = text.strip()
            raise
        rendering.file = text.strip()
        return rendering

    def value(self, text: str, kind: str = "text") -> Callable[[Document], Any]:
        """Compile a literal with holes; one that is exactly one whole ``{{ hole }}`` keeps its type."""
        if _is_path(text):
            return self.template(text, kind)
        compiled = compile_value(text, kind, self._known)
        if isinstance(compiled, Rendering):
            return self._fitting(compiled)
        return self._fitting(compiled) if isinstance(compiled, Compiled) else compiled

    def _fitting(self, compiled: C) -> C:
        """Return what was compiled; raise `ExpressionError` where it reads HL7 locations of other messages."""
        if compiled.locations and self.format.kind != "hl7":
            location = str(compiled.locations[0])
            position = max(compiled.text.find(location), 0)
            text = f"{location} is a place in an HL7 message, and the messages of this channel are {self.format.kind}"
            hint = f"use {', '.join(self.format.names)}"
            raise ExpressionError(text, source=compiled.text, position=position, length=len(location), hint=hint)
        return compiled

    def resource(self, name: str, zone: str | None = None) -> Callable[[Document], str]:
        """Return what writes a document's event as a FHIR resource, in JSON; raise `ExpressionError` for a mistake."""
        word, wrong, hint = mistake_in("fhir", [name], {"zone": zone} if zone else {})
        if wrong:
            raise _mistake(word, wrong, hint)
        return lambda document: as_text(fhir_of(event_of(document), name, zone))

    def script(self, name: str) -> Callable[[View], Any]:
        """Return a function by ``path/below/folder.py:function``; raise `ScriptError` when it cannot be had."""
        path, _, function = name.partition(":")
        if not function or not path.endswith(".py"):
            raise _script_mistake(name, f"{name!r} names no function", "write scripts/<file>.py:<function>")
        module = self._module(name, self._below(path))
        found = getattr(module, function, None)
        if not isinstance(found, FunctionType):
            functions = [key for key, value in vars(module).items() if isinstance(value, FunctionType)]
            raise _script_mistake(name, f"{path} has no function {function}", nearest(function, functions))
        return found

    def profile(self, text: str, version: str = "") -> Profile:
        """Return the profile of validation in a file below the folder; raise `HandoffError` for what is wrong."""
        content = self._read(text).encode()
        if self._read_profile is None:
            raise _mistake(text, "profiles cannot be read here")
        return self._read_profile(content, text, version)

    def _module(self, name: str, path: Path) -> ModuleType:
        if path not in self._scripts:
            self._scripts[path] = _run(name, path)
        return self._scripts[path]

    def _read(self, text: str) -> str:
        path = self._below(text.strip())
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise _mistake(text, f"{text} cannot be read ({type(error).__name__})") from None

    def _below(self, text: str) -> Path:
        """Return a file below the folder; refuse whatever leads out of it, links included."""
        parts = PurePosixPath(text).parts
        if not parts or text.startswith("/") or ".." in parts or "\\" in text or "\0" in text:
            raise _mistake(text, f"{text!r} is no path below the channels folder", "use / and no ..")
        folder = self.folder.resolve()
        path = folder.joinpath(*parts)
        if not path.is_file():
            there = [file.relative_to(folder).as_posix() for file in folder.glob(f"{parts[0]}/*{path.suffix}")]
            hint = nearest(text, there) if len(parts) > 1 else ""
            raise _mistake(text, f"{text} does not exist in {self.folder}", hint)
        if not path.resolve().is_relative_to(folder):
            raise _mistake(text, f"{text} leads out of the channels folder")
        return path


def _is_path(text: str) -> bool:
    return text.strip().endswith(_SUFFIX) and "{" not in text and "\n" not in text.strip()


def _run(name: str, path: Path) -> ModuleType:
    """Run a script as a module under a name of its own; nothing is searched for, and nothing is written beside it."""
    try:
        code = _compiled(name, path)
        key = hashlib.sha256(str(path).encode()).hexdigest()[:16]
        module = ModuleType(f"_channel_script_{key}")
        module.__file__ = str(path)
        sys.modules[module.__name__] = module  # dataclasses of the script look their module up
        exec(code, vars(module))  # noqa: S102 - scripts are the customer's own code, run in a worker process
    except ExpressionError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever the script does wrong is the analyst's to mend
        line = _line(error, str(path))
        text = f"{path.name} cannot be run: {type(error).__name__} at line {line}: {error}"
        raise _script_mistake(name, text) from None
    return module


def _compiled(name: str, path: Path) -> CodeType:
    try:
        return compile(path.read_bytes(), str(path), "exec", dont_inherit=True)
    except SyntaxError as error:
        raise _script_mistake(name, f"{path.name} is no Python: {error.msg} at line {error.lineno}") from None


def _line(error: Exception, path: str) -> int:
    line, traceback = 0, error.__traceback__
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename == path:
            line = traceback.tb_lineno
        traceback = traceback.tb_next
    return line


def _mistake(source: str, text: str, hint: str = "") -> ExpressionError:
    return ExpressionError(text, source=source, length=len(source), hint=hint)


def _script_mistake(source: str, text: str, hint: str = "") -> ScriptError:
    return ScriptError(text, source=source, length=len(source), hint=hint)
