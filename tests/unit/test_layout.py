"""The layout holds: which way imports go, how large things grow, where SQL may stand, and who owns a name.

(`print` outside the command line, imports of the reactor, complexity and missing docstrings are found by ruff.)
"""

import ast
import importlib
import importlib.metadata
import pkgutil
import re
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest

from broker.spec import Spec

ROOT: Final = Path(__file__).parents[2]

# Who may import whom. The three edges know the core and never each other.
MAY_IMPORT: Final = {
    "broker": set[str](),
    "listeners": {"broker"},
    "transforms": {"broker"},
    "dispatch": {"broker"},
    "config": {"broker", "listeners", "transforms", "dispatch"},
    "console": {"broker", "listeners", "transforms", "dispatch", "config"},
}
FOLDERS: Final = {*MAY_IMPORT, "channels", "tests", "bench", "docs", "deploy", "requirements"}
MADE: Final = {"var", "build", "node_modules"}  # what runs leave behind; git ignores it

# The one home of each statement: the two stores with their migrations, and the sandbox's own small table.
SQL_HOMES: Final = (
    "broker/acts.py",
    "broker/keys.py",
    "broker/migrate.py",
    "broker/migrations/",
    "broker/queries",
    "broker/schema",
    "broker/sql.py",
    "broker/store.py",
    "broker/writes",
    "dispatch/patients/",
    "dispatch/prm",
    "console/sandbox/",
)
SQL: Final = re.compile(
    r"\b(SELECT\s.+\sFROM|INSERT\s+INTO|UPDATE\s+\w+\s+SET|DELETE\s+FROM|(CREATE|ALTER|DROP)\s+(TABLE|INDEX))\b",
    re.DOTALL,
)

LONGEST_FILE: Final = 400
LONGEST_FUNCTION: Final = 40  # lines, without decorators and docstring
# A migration is one list of operations, written once and read never again.
LONG_BY_NATURE: Final = "/migrations/versions/"

# Imported under another name than they are installed by, or brought along by a library that we declare.
INSTALLED_AS: Final = {
    "OpenSSL": "pyopenssl",
    "jwt": "pyjwt",
    "pydantic_core": "pydantic",
    "yarl": "aiohttp",
    "zope": "twisted",
    "yaml": "pyyaml",
    "fhir": "fhir.resources",
}


def _product() -> list[Path]:
    return [path for folder in sorted(MAY_IMPORT) for path in sorted((ROOT / folder).rglob("*.py"))]


def _everything() -> list[Path]:
    rest = [path for folder in ("tests", "bench") for path in sorted((ROOT / folder).rglob("*.py"))]
    return _product() + rest


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_bytes(), str(path))


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _imports(path: Path) -> Iterator[tuple[int, str]]:
    """Give every absolute import of a file, wherever it stands: line and module."""
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            yield node.lineno, node.module


def _pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def _declared() -> set[str]:
    return {_canonical(text) for text in _pyproject()["project"]["dependencies"]}


def _canonical(requirement: str) -> str:
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    return re.sub(r"[._-]+", "-", found[0]).lower() if found else ""


def test_imports_go_one_way() -> None:
    wrong = [
        f"{_name(path)}:{line} imports {module}"
        for path in _product()
        for line, module in _imports(path)
        if (top := module.partition(".")[0]) in FOLDERS
        and top != (own := path.relative_to(ROOT).parts[0])
        and top not in MAY_IMPORT[own]
    ]
    assert not wrong


def test_libraries_are_declared_where_imported() -> None:
    known = {*MAY_IMPORT, *sys.stdlib_module_names}
    wrong = [
        f"{_name(path)}:{line} imports {module}, which pyproject.toml does not name"
        for path in _product()
        for line, module in _imports(path)
        if (top := module.partition(".")[0]) not in known and _canonical(INSTALLED_AS.get(top, top)) not in _declared()
    ]
    assert not wrong


def test_files_stay_readable_in_one_sitting() -> None:
    counted = {_name(path): path.read_bytes().count(b"\n") for path in _everything()}
    assert not {name: lines for name, lines in counted.items() if lines > LONGEST_FILE}


def test_functions_fit_on_a_screen() -> None:
    long = [
        f"{_name(path)}:{node.lineno} {node.name}: {lines} lines"
        for path in _everything()
        if LONG_BY_NATURE not in _name(path)
        for node in ast.walk(_tree(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (lines := _lines(node)) > LONGEST_FUNCTION
    ]
    assert not long


def _lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    lines = (node.end_lineno or node.lineno) - node.lineno + 1
    if ast.get_docstring(node, clean=False) is not None:
        lines -= (node.body[0].end_lineno or 0) - node.body[0].lineno + 1
    return lines


def test_modules_say_what_they_are() -> None:
    silent = [
        _name(path)
        for path in _product()
        if not (said := ast.get_docstring(_tree(path)) or "").startswith("This module ")
        and not (path.name == "__init__.py" and said)
    ]
    assert not silent


def test_sql_stands_in_its_homes_only() -> None:
    strays = [
        f"{_name(path)}:{node.lineno}"
        for path in _product()
        if not _name(path).startswith(SQL_HOMES)
        for node in ast.walk(_tree(path))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and SQL.search(node.value)
    ]
    assert not strays


def test_top_level_holds_nothing_new() -> None:
    found = {path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")}
    assert not {name for name in found - FOLDERS - MADE if not name.endswith((".egg-info", "__pycache__"))}


def test_channels_hold_no_package() -> None:
    assert not list((ROOT / "channels").rglob("__init__.py"))


@pytest.mark.parametrize("name", sorted({*MAY_IMPORT, "tests", "bench"}))
def test_import_names_have_one_owner(name: str) -> None:
    owners = set(importlib.metadata.packages_distributions().get(name, []))
    assert owners <= {"handoff"}, f"another installed package also brings a {name!r}"
    if name in MAY_IMPORT:
        assert Path(str(importlib.import_module(name).__file__)).is_relative_to(ROOT)


def test_tests_ask_need_for_programs() -> None:
    """A program that is merely looked up would be skipped unnoticed where everything is required."""
    own = {"tests/conftest.py", "tests/postgres.py"}
    strays = [
        f"{_name(path)}:{node.lineno}"
        for path in sorted((ROOT / "tests").rglob("*.py"))
        if _name(path) not in own
        for node in ast.walk(_tree(path))
        if isinstance(node, ast.Attribute) and node.attr == "which"
    ]
    assert not strays


# Declarations of parts.


def _specs() -> list[type[Spec]]:
    for folder in ("listeners", "transforms", "dispatch", "config"):
        package = importlib.import_module(folder)
        for module in pkgutil.walk_packages(package.__path__, f"{folder}."):
            if ".migrations" not in module.name:
                importlib.import_module(module.name)
    return sorted(_below(Spec), key=lambda spec: spec.__qualname__)


def _below(spec: type[Spec]) -> set[type[Spec]]:
    own = {below for below in spec.__subclasses__() if not below.__module__.startswith("tests.")}
    return own.union(*(_below(below) for below in own))


def test_specs_describe_every_option_in_snake_case() -> None:
    wrong = [
        f"{spec.__module__}.{spec.__qualname__}.{option}"
        for spec in _specs()
        for option, field in spec.model_fields.items()
        if not (field.description or "").strip()
        or not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", field.alias or option)
    ]
    assert not wrong


def test_specs_describe_themselves() -> None:
    assert _specs()
    assert not [spec.__qualname__ for spec in _specs() if not (spec.__dict__.get("__doc__") or "").strip()]


# The lock.


def _pins(name: str) -> dict[str, str]:
    text = (ROOT / "requirements" / name).read_text()
    return dict(re.findall(r"^([a-z0-9._-]+)(?:\[[a-z0-9,_-]+\])?==([^ ;\\]+)", text, re.MULTILINE))


def test_lock_pins_everything_declared_with_hashes() -> None:
    run, dev = _pins("run.txt"), _pins("dev.txt")
    groups = _pyproject()["dependency-groups"]
    assert {*_declared(), *map(_canonical, groups["build"])} <= set(run)
    assert set(map(_canonical, groups["dev"])) <= set(dev)
    assert run.items() <= dev.items(), "requirements/dev.txt pins other versions than run.txt: run `make lock`"
    for name in ("run.txt", "dev.txt"):
        text = (ROOT / "requirements" / name).read_text()
        pinned = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]
        assert all("--hash=sha256:" in block for block in pinned)


def test_lock_names_no_index() -> None:
    """Where packages come from is the business of the machine that installs them; their hashes are ours."""
    for name in ("run.txt", "dev.txt"):
        assert not re.search(
            r"https?://|file:|--(extra-)?index|--find-links", (ROOT / "requirements" / name).read_text()
        )
