"""This module counts notices in the Prometheus text format; labels hold names of channels and destinations only."""

import time
from collections.abc import Callable, Iterable
from typing import Any, Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from broker import notices as said
from broker import notices_texts as texts
from broker.notices_pressure import QuarantineDropped
from broker.queries import Backlog

_FAST: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1.0)  # seconds: commits, steps
_SLOW: Final = (0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 30.0)  # seconds: answers of other systems


class Metrics:
    """Every metric of the engine, in a registry of its own."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each counter, of no use here
        self.registry = CollectorRegistry(auto_describe=True)
        counter = self._counter
        self._messages = counter(
            "messages", "Messages, by stage and how the stage ended", "channel", "stage", "outcome"
        )
        self._warnings = counter("validation_warnings", "Warnings of validation, by table 0357 code", "channel", "code")
        self._dropped = counter("quarantine_dropped", "Entries of the quarantine that there was no room for", "channel")
        self._deliveries = counter("deliveries", "Deliveries, by how they ended", "channel", "destination", "outcome")
        self._failures = counter("delivery_failures", "Attempts that did not deliver", "channel", "destination")
        self._refused = counter("connections_refused", "Peers turned away", "channel")
        self._connections = self._gauge("connections", "Open connections of peers", "channel")
        self._away = self._gauge("source_away", "1 while what a channel reads from cannot be reached", "channel")
        self._circuit = self._gauge(
            "circuit_state", "1 while a destination is left alone, 0.5 while one probes", "channel", "destination"
        )
        self._busy = counter("destination_busy", "Times that a destination asked for time", "channel", "destination")
        self._paused = self._gauge("paused", "1 while an operator has it paused", "channel", "destination")
        self._reports = counter("delivery_reports", "What other sides reported of deliveries", "by", "state")
        self._segments = counter("text_segments", "Short messages that gateways took", "gateway")
        self._cost = counter("text_cost", "What they cost, by the prices in handoff.yaml", "gateway", "currency")
        self._workers = counter("workers_died", "Worker processes that ended or were killed")
        self._bugs = counter("bugs", "Exceptions that nobody expected")
        self._units = counter("store_units", "Units of work that the store committed")
        self._commit = self._histogram("store_commit_seconds", "Time of one group commit", _FAST)
        self._steps = self._histogram("process_seconds", "Time that the steps took for one batch", _FAST, "channel")
        self._send = self._histogram("delivery_seconds", "Time of one send", _SLOW, "channel", "destination")
        self.loop_lag = self._gauge("loop_lag_seconds", "How late the event loop runs what is due")
        self._depth = self._gauge("queue_depth", "What waits now", "channel", "destination")
        self._oldest = self._gauge("queue_oldest_seconds", "Age of the oldest that waits", "channel", "destination")
        self._dead = self._gauge("dead_letters", "What waits for an operator", "channel", "destination")
        self._waiting = self._gauge("intake_waiting_bytes", "Messages in memory that wait for their commit")
        self._unfinished = self._gauge("intake_unfinished_bytes", "Messages in memory of which a part has come")
        self._stopped = self._gauge("intake_stopped", "1 while nothing more is taken in", "reason")
        self._free = self._gauge("store_free_bytes", "Space that is free where the store is")
        self._last: dict[str, float] = {}
        self._children: dict[tuple[Any, ...], Any] = {}
        self._counting: dict[type[said.Notice], Callable[[Any], None]] = self._table()
        self.registry.register(_Silence(self._last))

    def count(self, notice: said.Notice) -> None:
        """Count one notice."""
        counting = self._counting.get(type(notice))
        if counting is not None:
            counting(notice)

    def weigh(self, pressure: Any) -> None:
        """Note whether more is taken in; ``pressure`` is a `broker.pressure.Pressure`."""
        self._waiting.set(pressure.waiting)
        self._unfinished.set(pressure.unfinished)
        self._stopped.labels("busy").set(pressure.state == "busy")
        self._stopped.labels("short").set(pressure.state == "short")
        if pressure.free is not None:
            self._free.set(pressure.free)

    def note(self, status: Iterable[Any]) -> None:
        """Note which channels cannot reach what they read from; ``status`` is that of `broker.engine.Engine`."""
        for each in status:
            self._away.labels(each.channel).set(each.state == "away")

    def show(self, backlog: Iterable[Backlog], now: float) -> bytes:
        """Return every metric as text, with what waits now."""
        for each in backlog:
            labels = (each.channel, each.destination or "")
            self._depth.labels(*labels).set(each.waiting)
            self._oldest.labels(*labels).set(0.0 if each.oldest_at is None else max(0.0, now - each.oldest_at))
            self._dead.labels(*labels).set(each.dead)
        return generate_latest(self.registry)

    def _table(self) -> dict[type[said.Notice], Callable[[Any], None]]:
        child = self._child
        return {
            said.MessagesAccepted: self._accepted,
            said.MessagesProcessed: self._processed,
            said.ValidationWarned: lambda n: child(self._warnings, n.channel, str(n.code)).inc(n.count),
            said.DeliveriesEnded: self._ended,
            said.Committed: self._committed,
            said.MessageRefused: lambda n: child(self._messages, n.channel, "accept", "refused").inc(),
            said.Quarantined: lambda n: child(self._messages, n.channel, "accept", "quarantined").inc(),
            QuarantineDropped: lambda n: child(self._dropped, n.channel).inc(n.count),
            said.DeliveryFailed: lambda n: child(self._failures, n.channel, n.destination).inc(),
            said.ConnectionOpened: lambda n: child(self._connections, n.channel).inc(),
            said.ConnectionClosed: lambda n: child(self._connections, n.channel).dec(),
            said.ConnectionRefused: lambda n: child(self._refused, n.channel).inc(),
            said.HandshakeFailed: lambda n: child(self._refused, n.channel).inc(),
            said.PeerRefused: lambda n: child(self._refused, n.channel).inc(),
            said.DeliveriesExpired: lambda n: child(self._deliveries, n.channel, n.destination, "expired").inc(n.count),
            said.CircuitOpened: lambda n: child(self._circuit, n.channel, n.destination).set(1),
            said.CircuitProbed: lambda n: child(self._circuit, n.channel, n.destination).set(0.5),
            said.CircuitReopened: lambda n: child(self._circuit, n.channel, n.destination).set(1),
            said.CircuitClosed: lambda n: child(self._circuit, n.channel, n.destination).set(0),
            said.DestinationBusy: lambda n: child(self._busy, n.channel, n.destination).inc(),
            said.Paused: lambda n: child(self._paused, n.channel, n.destination).set(1),
            said.Resumed: lambda n: child(self._paused, n.channel, n.destination).set(0),
            texts.DeliveryReported: lambda n: child(self._reports, n.by, n.state).inc(),
            texts.TextSent: self._texted,
            said.WorkerDied: lambda _: self._workers.inc(),
            said.Bug: lambda _: self._bugs.inc(),
        }

    def _accepted(self, notice: said.MessagesAccepted) -> None:
        self._last[notice.channel] = time.time()
        self._child(self._messages, notice.channel, "accept", "accepted").inc(notice.count)
        if notice.duplicates:
            self._child(self._messages, notice.channel, "accept", "duplicate").inc(notice.duplicates)

    def _processed(self, notice: said.MessagesProcessed) -> None:
        for outcome in ("processed", "filtered", "failed"):
            value = getattr(notice, outcome)
            if value:
                self._child(self._messages, notice.channel, "process", outcome).inc(value)
        self._child(self._steps, notice.channel).observe(notice.seconds)

    def _ended(self, notice: said.DeliveriesEnded) -> None:
        self._child(self._deliveries, notice.channel, notice.destination, notice.state).inc(notice.count)
        send = self._child(self._send, notice.channel, notice.destination)
        for seconds in notice.seconds:
            send.observe(seconds)

    def _texted(self, notice: texts.TextSent) -> None:
        self._child(self._segments, notice.gateway).inc(notice.segments)
        if notice.currency:
            self._child(self._cost, notice.gateway, notice.currency).inc(notice.cost)

    def _committed(self, notice: said.Committed) -> None:
        self._units.inc(notice.units)
        self._commit.observe(notice.seconds)

    def _child(self, metric: Any, *labels: str) -> Any:
        key = (metric, *labels)
        found = self._children.get(key)
        if found is None:
            found = self._children[key] = metric.labels(*labels)
        return found

    def _counter(self, name: str, help_: str, *labels: str) -> Counter:
        return Counter(f"handoff_{name}", help_, labels, registry=self.registry)

    def _gauge(self, name: str, help_: str, *labels: str) -> Gauge:
        return Gauge(f"handoff_{name}", help_, labels, registry=self.registry)

    def _histogram(self, name: str, help_: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(f"handoff_{name}", help_, labels, buckets=buckets, registry=self.registry)


class _Silence(Collector):
    """How long each channel has had no message, as of the moment of asking."""

    def __init__(self, last: dict[str, float]) -> None:
        self._last = last

    def collect(self) -> Iterable[GaugeMetricFamily]:
        family = GaugeMetricFamily(
            "handoff_source_last_message_seconds", "Time since the last message of a channel", labels=["channel"]
        )
        now = time.time()
        for channel, at in list(self._last.items()):
            family.add_metric([channel], max(0.0, now - at))
        yield family
