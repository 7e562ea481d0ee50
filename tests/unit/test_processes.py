"""What a worker process answers is taken only as what it may be."""

from collections.abc import Sequence
from typing import Any

import pytest

from broker.errors import Breach
from broker.processes import Rendered, _read_results


def results(*deliveries: Any, state: str = "processed", more: Sequence[Any] = ()) -> dict[str, Any]:
    return {"results": [[state, None, None, None, list(deliveries), *more]]}


def test_deliveries_are_cut_out_of_what_follows() -> None:
    (one,) = _read_results(results([0, "a", 2], [62, "b", 1, "c"]), b"xyz", 1)
    assert one.deliveries == (Rendered(0, "a", b"xy"), Rendered(62, "b", b"z", "c"))


def test_warnings_are_read_by_their_code() -> None:
    (one,) = _read_results(results(more=[[[102, 7], [199, 1]]]), b"", 1)
    assert one.warned == ((102, 7), (199, 1))


def test_what_is_wrong_is_read_by_its_code() -> None:
    (one,) = _read_results(results(state="failed", more=[[], [["PID-5", 101, "not valued"]]]), b"", 1)
    assert (one.warned, one.breaches) == ((), (Breach("PID-5", 101, "not valued"),))


@pytest.mark.parametrize(
    ("header", "rest", "count"),
    [
        (results([63, "a", 1]), b"x", 1),
        (results([-1, "a", 1]), b"x", 1),
        (results([0, "a", 1]), b"xy", 1),
        (results(), b"", 2),
        (results(state="sleeping"), b"", 1),
        (results(more=[[[105, 1]]]), b"", 1),
        (results(more=[[[102, 0]]]), b"", 1),
        (results(more=[[], [["PID-5", 105, "no such code"]]]), b"", 1),
        (results(more=[[], [["PID-5", 101, "x" * 1000]]]), b"", 1),
        (results(more=[[], [["P" * 1001, 101, ""]]]), b"", 1),
        (results(more=[[], [["PID-5", 101, ""]] * 21]), b"", 1),
    ],
)
def test_what_is_no_answer_is_refused(header: Any, rest: bytes, count: int) -> None:
    with pytest.raises(ValueError, match=r"no such|as many"):
        _read_results(header, rest, count)
