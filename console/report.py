"""This module turns every notice into a log line, a metric and a live update; it is the only thing that logs."""

import asyncio
import json
import logging
import sys
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any, ClassVar, Final, TextIO

from broker.ids import show
from broker.notices import Notice
from broker.notices_pressure import NoticesLeftOut
from console.metrics import Metrics
from console.quota import Quota

LEVELS: Final[Mapping[str, int]] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
}
_IDS: Final = frozenset({"message", "delivery"})  # fields that hold an id of ours
_KEPT: Final = 200
_EVERY: Final = 1.0  # seconds


class Hub:
    """What live views look at: a version that grows with every notice, and the latest notices worth reading.

    Notices come from any thread, so nothing here waits or wakes; views look in at their own pace.
    """

    def __init__(self) -> None:
        self.version = 0
        self.recent: deque[dict[str, Any]] = deque(maxlen=_KEPT)
        self._views: list[deque[dict[str, Any]]] = []

    def subscribe(self, size: int = 100) -> deque[dict[str, Any]]:
        """Return a queue that gets every notice worth reading from now on; when it is full the oldest fall out."""
        view: deque[dict[str, Any]] = deque(maxlen=size)
        self._views.append(view)
        return view

    def unsubscribe(self, view: deque[dict[str, Any]]) -> None:
        """Forget a queue."""
        self._views = [each for each in self._views if each is not view]

    def publish(self, said: dict[str, Any]) -> None:
        """Give a notice, as JSON values, to everybody who looks."""
        self.recent.append(said)
        for view in self._views:
            view.append(said)


class Report:
    """Receives every notice. Those of level debug, and too many about one peer, are only counted, unless ``verbose``.

    Usable from any thread. A notice costs about a microsecond when it is only counted.
    """

    _KINDS: ClassVar[frozenset[str]] = frozenset({"text", "json"})

    def __init__(self, *, lines: str = "text", verbose: bool = False, stream: TextIO | None = None) -> None:
        if lines not in self._KINDS:
            message = f"log lines are {lines!r}; write text or json"
            raise ValueError(message)
        self.metrics = Metrics()
        self.hub = Hub()
        self._verbose = verbose
        self._quota = Quota()
        self._write = json_line if lines == "json" else text_line
        self._logger = _logger(stream or sys.stderr)

    def __call__(self, notice: Notice) -> None:
        """Count a notice, and tell it if it is worth telling."""
        self.metrics.count(notice)
        self.hub.version += 1
        if self._verbose or (notice.level != "debug" and self._quota.admits(notice)):
            self._tell(notice)

    async def watch(self) -> None:
        """Tell, until cancelled, how many notices were left out whenever a minute of them is over."""
        while True:
            await asyncio.sleep(_EVERY)
            self.settle()

    def settle(self, *, all_of_it: bool = False) -> None:
        """Tell how many notices were left out in the minutes that are over, or in all."""
        for about, count in self._quota.settle(all_of_it=all_of_it):
            kind = name_of(about.kind)
            self._tell(NoticesLeftOut(channel=about.channel, peer=about.host, kind=kind, count=count))

    def _tell(self, notice: Notice) -> None:
        said = as_json(notice)
        self.hub.publish(said)
        self._logger.log(LEVELS[notice.level], self._write(said))


def as_json(notice: Notice) -> dict[str, Any]:
    """Return a notice as JSON values: ``at``, ``level``, ``notice`` (its name in snake_case), then its fields."""
    at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    said: dict[str, Any] = {"at": at, "level": notice.level, "notice": name_of(type(notice))}
    for field in fields(notice):
        value = getattr(notice, field.name)
        said[field.name] = show(value) if field.name in _IDS and isinstance(value, int) else value
    return said


def name_of(kind: type[Notice]) -> str:
    """Return the name of a kind of notice as logs write it: ``DeliveryFailed`` is ``delivery_failed``."""
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in kind.__name__).lstrip("_")


def json_line(said: dict[str, Any]) -> str:
    """Return a notice as one line of JSON."""
    return json.dumps(said, ensure_ascii=False, separators=(",", ":"))


def text_line(said: dict[str, Any]) -> str:
    """Return a notice as ``time level name: field=value …``; quoted where needed, so that a line stays one."""
    rest = " ".join(f"{name}={_quoted(value)}" for name, value in list(said.items())[3:])
    return f"{said['at']} {said['level']} {said['notice']}" + (f": {rest}" if rest else "")


def _quoted(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    text = str(value)
    plain = text.isprintable() and text and not any(letter in text for letter in ' "=')
    return text if plain else json.dumps(text, ensure_ascii=False)


def _logger(stream: TextIO) -> logging.Logger:
    logger = logging.getLogger("handoff")
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger.handlers = [handler]
    logger.propagate = False
    logger.setLevel(logging.DEBUG)
    return logger


Notify = Callable[[Notice], None]
