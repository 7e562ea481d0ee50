"""This module tests that types that are quick to construct are otherwise the dataclasses that they were."""

import copy
import dataclasses
import inspect
import pickle

import pytest

from broker.canonical import model
from broker.canonical.model import Coding, Concept, Observation
from broker.canonical.quick import quicken

KINDS = [kind for name in model.__all__ if isinstance(kind := getattr(model, name), type)]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Plain:
    first: str
    second: tuple[int, ...] = ()
    third: str | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Quick:
    first: str
    second: tuple[int, ...] = ()
    third: str | None = None


quicken(Quick)


def test_construction_is_the_same() -> None:
    assert inspect.signature(Quick) == inspect.signature(Plain)
    made = Quick(first="a", third="c")
    assert type(made) is Quick
    assert (made.first, made.second, made.third) == ("a", (), "c")
    assert repr(made) == repr(Plain(first="a", third="c")).replace("Plain", "Quick")
    assert made == Quick(first="a", third="c")
    assert hash(made) == hash(Quick(first="a", third="c"))
    assert made != Quick(first="b", third="c")


@pytest.mark.parametrize("wrong", [{}, {"second": ()}, {"first": "a", "other": 1}])
def test_wrong_arguments_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(TypeError):
        Quick(**wrong)  # type: ignore[arg-type]


def test_instances_are_frozen() -> None:
    made = Quick(first="a")
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.first = "b"  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        del made.first
    with pytest.raises((AttributeError, TypeError)):
        made.another = "b"  # type: ignore[attr-defined]


def test_copies_and_replacements_are_the_same() -> None:
    concept = Concept(code="A", alternates=(Coding(code="B"),))
    assert dataclasses.replace(concept, text="x") == Concept(code="A", alternates=(Coding(code="B"),), text="x")
    for copied in (copy.copy(concept), copy.deepcopy(concept), pickle.loads(pickle.dumps(concept))):  # noqa: S301
        assert copied == concept
        assert type(copied) is Concept


def test_every_type_of_the_model_is_quick() -> None:
    slow = [kind.__name__ for kind in KINDS if vars(kind)["__init__"].__code__.co_filename != "<quick>"]
    assert not slow
    assert Observation().components == ()


def test_other_types_are_refused() -> None:
    thawed = dataclasses.make_dataclass("Thawed", [("a", str)], slots=True, kw_only=True)
    loose = dataclasses.make_dataclass("Loose", [("a", str)], frozen=True, kw_only=True)
    placed = dataclasses.make_dataclass("Placed", [("a", str)], frozen=True, slots=True)
    for kind in (thawed, loose, placed, str):
        with pytest.raises(TypeError, match="no frozen dataclass"):
            quicken(kind)
