"""This module compiles what a channel says without running any of it, and notes every mistake with its place."""

import ast
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from broker.errors import HandoffError
from broker.formats.reading import Format
from config.channel import ChannelPlan, DeliverPlan, Draft, StepPlan
from config.findings import Finding, did_you_mean, shown
from config.marks import Keys, Mark, Marks, Source, show
from config.profiles import read_profile
from transforms.dictionary import check_location
from transforms.expression import Compiled, compile_expression
from transforms.kit import Kit
from transforms.mistakes import ExpressionError
from transforms.policy import ROOTS
from transforms.profile import Profile
from transforms.scan import Source as ReadText
from transforms.scan import read_expression, read_template
from transforms.script import ScriptError
from transforms.template import Rendering, compile_template


@dataclass(frozen=True, slots=True)
class _Mistake:
    """A mistake in one text that a part compiled: ``written`` is that text as it stands in the channel file."""

    written: str
    code: str
    error: ExpressionError
    severity: str = "error"


class CheckingKit(Kit):
    """A kit that notes mistakes and goes on, reads scripts without running them, and keeps the files that it read.

    ``only_checks`` tells parts that nothing will be run, so that they need not get ready for it.
    """

    only_checks = True

    def __init__(self, folder: Path, form: Format | None = None, presets: Mapping[str, Any] | None = None) -> None:
        super().__init__(Path(shown(folder)), form, None, presets)
        self.files: dict[str, bytes] = {}  # by their path below the folder
        self._mistakes: list[_Mistake] = []
        self._in_files: list[Finding] = []

    def taken(self) -> list[_Mistake]:
        """Return the mistakes since the last call."""
        mistakes, self._mistakes = self._mistakes, []
        return mistakes

    def taken_in_files(self) -> list[Finding]:
        """Return what was found since the last call in files that have places of their own."""
        findings, self._in_files = self._in_files, []
        return findings

    def placed(self, tree: Any, keys: Keys, marks: Marks) -> list[Finding]:
        """Return the mistakes since the last call as findings: their texts are in ``tree``, below ``keys``."""
        placing = _Placing(tree, marks, self.folder)
        return [*self.taken_in_files(), *(placing.finding(keys, mistake) for mistake in self.taken())]

    def expression(self, text: str) -> Compiled:
        """Compile an expression, or note its mistake."""
        try:
            compiled = super().expression(text)
        except ExpressionError as error:
            self._note(text, "E201", error)
            return compile_expression("none")
        self._check_locations(text, read_expression(text))
        return compiled

    def template(self, text: str, kind: str = "text") -> Rendering:
        """Compile a template, or note its mistake."""
        try:
            rendering = super().template(text, kind)
        except ExpressionError as error:
            self._note(text, "E202", error)
            return compile_template("null" if kind == "json" else "", kind)
        self._check_locations(text, read_template(rendering.text), rendering.file)
        return rendering

    def value(self, text: str, kind: str = "text") -> Callable[[Any], Any]:
        """Compile a literal with holes, or note its mistake."""
        try:
            compiled = super().value(text, kind)
        except ExpressionError as error:
            self._note(text, "E202", error)
            return lambda _: ""
        if not isinstance(compiled, Rendering) or not compiled.file:  # a file was looked at by `template`
            self._check_locations(text, read_template(text))
        return compiled

    def profile(self, text: str, version: str = "") -> Profile:
        """Read a profile, or note its mistakes, which are in the file itself."""
        try:
            content = self._read(text)
        except ExpressionError as error:
            self._mistakes.append(_Mistake(text, "E204", error))
            return Profile()
        profile, findings = read_profile(content.encode(), shown(self.folder / text.strip()), version)
        self._in_files += findings
        return profile or Profile()

    def resource(self, name: str, zone: str | None = None) -> Callable[[Any], str]:
        """Look a standard resource up, or note its mistake."""
        try:
            return super().resource(name, zone)
        except ExpressionError as error:
            self._note(error.source, "E202", error)
            return lambda _: "null"

    def script(self, name: str) -> Callable[..., Any]:
        """Look for a function in a script, which is read and not run; note what is wrong with it."""
        path, _, function = name.partition(":")
        try:
            if not function or not path.endswith(".py"):
                raise ScriptError(f'"{name}" names no function', source=name, hint="write scripts/<file>.py:<function>")
            file = self._below(path)
            data = self.files[path] = file.read_bytes()
            names = _functions(data, path)
            if function not in names:
                hint = did_you_mean(function, names)
                raise ScriptError(f"{path} has no function {function}", source=name, hint=hint)
        except ExpressionError as error:
            self._note(name, "E205", error)
        except OSError as error:
            self._note(name, "E204", ScriptError(f"{path} cannot be read ({error.strerror})", source=name))
        return _nothing

    def _read(self, text: str) -> str:
        content = super()._read(text)
        self.files[text.strip()] = content.encode()
        return content

    def _note(self, written: str, code: str, error: ExpressionError) -> None:
        about_file = not error.file and (
            error.source != written if code == "E205" else written.strip().endswith(".j2") and "{" not in written
        )
        self._mistakes.append(_Mistake(written, "E204" if about_file else code, error))

    def _check_locations(self, written: str, text: ReadText, file: str = "") -> None:
        for name, location in text.locations.items():
            wrong = check_location(location)
            if wrong is not None:
                what, _, hint = wrong.partition("; ")
                error = text.mistake(what, text.masked.find(name), len(name), hint)
                error.file = file
                self._mistakes.append(_Mistake(written, "E203", error, "warning"))


def _functions(data: bytes, path: str) -> list[str]:
    try:
        tree = ast.parse(data)
    except (SyntaxError, ValueError, RecursionError) as error:
        text = data.decode("utf-8", "replace")
        mistake = ScriptError(f"this is no Python: {getattr(error, 'msg', error)}", source=text, length=1)
        mistake.file = path
        line, column = getattr(error, "lineno", None) or 1, getattr(error, "offset", None) or 1
        mistake.position = sum(len(before) for before in text.splitlines(keepends=True)[: line - 1]) + column - 1
        raise mistake from None
    return [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]


def _nothing(*_: Any) -> None:
    """Stand in for a script's function."""


@dataclass(slots=True)
class _Placing:
    """Finds where in a tree the texts with mistakes stand."""

    tree: Any
    marks: Marks
    folder: Path
    _used: set[Keys] = field(default_factory=set)

    def finding(self, keys: Keys, mistake: _Mistake) -> Finding:
        """Return a mistake in what stands at ``keys`` as a finding."""
        error = mistake.error
        if error.file:
            source = Source(shown(self.folder / error.file), error.source)
            mark = Mark(source, error.position, error.position + max(error.length, 1))
        else:
            mark = self.marks.value(self._place(keys, mistake.written))
            if error.source == mistake.written and error.length not in {0, len(error.source)}:
                mark = mark.inside(mistake.written, error.position, error.length)
        return mark.finding(mistake.code, error.text, error.hint, mistake.severity)

    def _place(self, keys: Keys, written: str) -> Keys:
        """Return where below ``keys`` a text stands; each of several equal ones is told once."""
        value: Any = self.tree
        for key in keys:
            value = value[key]
        places = list(_texts(value, written, keys)) or list(_texts(self.tree, written, ()))
        fresh = next((place for place in places if place not in self._used), None)
        if fresh is not None:
            self._used.add(fresh)
        return fresh or (places[0] if places else keys)


@dataclass(slots=True)
class Compiling:
    """Compiles one channel, part by part, and turns mistakes into findings."""

    draft: Draft
    marks: Marks
    findings: list[Finding]
    kit: CheckingKit
    _placing: _Placing = field(init=False)

    def __post_init__(self) -> None:
        """Look for texts in the channel's tree."""
        self._placing = _Placing(self.draft.tree, self.marks, self.kit.folder)

    def compile(self) -> None:
        """Compile everything, in the order in which it would be built."""
        self._index()
        steps = {step.position - 1: step for step in self.draft.steps}
        written = self.draft.tree.get("steps")
        for number, item in enumerate(written if isinstance(written, list) else []):
            if number in steps:
                self._step(steps[number])
            elif isinstance(item, dict) and isinstance(item.get("set"), dict):
                for name in item["set"]:  # what refers to it is right, though the step is not
                    self.kit.declare(str(name))
        self._expression(("order",))
        blocks = self.draft.tree.get("deliver")
        plans = {plan.name: plan for plan in self.draft.deliver}
        for name in blocks if isinstance(blocks, dict) else ():
            self._expression(("deliver", name, "when"))
            if name in plans:
                self._destination(plans[name])

    def _index(self) -> None:
        values = self.draft.tree.get("index")
        for name, text in values.items() if isinstance(values, dict) else ():
            if isinstance(text, str):
                keys: Keys = ("index", name)
                compiled = self.kit.expression(text)
                for root in sorted(set(ROOTS) & set(compiled.names)):
                    position = text.find(root)
                    hint = "write locations, such as PID-3[5=MR].1"
                    wrong = f"{show(keys)} is read before the steps: there is no {root} yet"
                    mark = self.marks.value(keys).inside(text, position, len(root))
                    self.findings.append(mark.finding("E201", wrong, hint))
                self._report(keys)

    def _expression(self, keys: Keys) -> None:
        value: Any = self.draft.tree
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        if isinstance(value, str):
            self.kit.expression(value)
            self._report(keys)

    def _step(self, step: StepPlan) -> None:
        keys: Keys = ("steps", step.position - 1, step.kind)
        self._build(keys, step.spec.build)

    def _destination(self, plan: DeliverPlan) -> None:
        self._build(("deliver", plan.name, plan.kind), plan.spec.build_renderer)

    def _build(self, keys: Keys, build: Callable[[Any], Any]) -> None:
        try:
            build(self.kit)
        except ExpressionError as error:
            self._tell(keys, _Mistake(error.source, "E206", error))
        except (HandoffError, ValueError) as error:
            text = f"{show(keys)} cannot be built: {error}"
            self.findings.append(self.marks.key(keys).finding("E206", text))
        self._report(keys)

    def _report(self, keys: Keys) -> None:
        self.findings += self.kit.taken_in_files()
        for mistake in self.kit.taken():
            self._tell(keys, mistake)

    def _tell(self, keys: Keys, mistake: _Mistake) -> None:
        self.findings.append(self._placing.finding(keys, mistake))


def check_wanted(plan: ChannelPlan, folder: Path, texts: Sequence[str]) -> None:
    """Compile expressions over what a channel's steps leave, none of which is run; raise `ExpressionError`."""
    kit = CheckingKit(folder, plan.format.spec.build(plan.listen.charset))
    for step in plan.steps:
        step.spec.build(kit)
    for text in texts:
        Kit.expression(kit, text)  # its own would note a mistake and go on


def _texts(value: Any, written: str, keys: Keys) -> Iterator[Keys]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _texts(inner, written, (*keys, key))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _texts(inner, written, (*keys, number))
    elif value == written:
        yield keys
