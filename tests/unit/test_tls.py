"""Files of certificates are looked at now and then, and what has changed in them is taken up."""

import os
from pathlib import Path

import pytest

from broker import tls
from broker.tls import EVERY, Tls, TlsSpec
from tests.certificates import Authority


def test_files_are_looked_at_at_most_once_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = Authority(tmp_path)
    mine = authority.vouch("handoff.example")
    now = [100.0]
    looks: list[Path] = []
    stamp_of = tls.stamp_of

    def noted(path: Path) -> tuple[int | None, int, int]:
        looks.append(path)
        return stamp_of(path)

    monkeypatch.setattr(tls, "stamp_of", noted)
    spec = TlsSpec(ca=str(authority.file), certificate=str(mine))
    asked = Tls(spec, Path(), "here", pytest.fail, lambda: now[0])
    first = asked.context()
    os.replace(authority.vouch("new.example"), mine)  # noqa: PTH105 - as those do it who renew certificates
    now[0] += EVERY / 2
    assert {asked.context() for _ in range(100)} == {first}
    assert len(looks) == 2  # at each file, once: when they were read
    now[0] += EVERY / 2
    renewed = {asked.context() for _ in range(100)}
    assert len(renewed) == 1
    assert first not in renewed
    assert len(looks) == 4
    now[0] += EVERY
    assert {asked.context()} == renewed
