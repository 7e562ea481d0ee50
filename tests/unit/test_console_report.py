"""Every notice becomes what an operator sees, once, and nothing else does."""

import io
import json

import pytest
from prometheus_client.parser import text_string_to_metric_families

from broker import notices
from broker.notices import (
    CircuitClosed,
    CircuitOpened,
    CircuitProbed,
    CircuitReopened,
    Committed,
    DeliveriesEnded,
    DeliveriesExpired,
    DeliveryFailed,
    DestinationBusy,
    HandshakeFailed,
    MessagesAccepted,
    MessagesProcessed,
    Notice,
    Paused,
    Resumed,
    ValidationWarned,
)
from broker.notices_pressure import QuarantineDropped
from broker.queries import Backlog
from console.report import LEVELS, Report, as_json, name_of

FAILED = DeliveryFailed(
    channel="adt",
    destination="ehr",
    delivery=(1 << 50) + 1,
    attempt=2,
    state="waiting",
    reason='503 "busy"\nsecond line',
)


def sample(report: Report, name: str, **labels: str) -> float:
    """Return one value of the metrics page."""
    text = report.metrics.show([], 0.0).decode()
    for family in text_string_to_metric_families(text):
        for each in family.samples:
            if each.name == name and each.labels == labels:
                return each.value
    raise AssertionError(name)


def test_text_line_stays_one_line_and_shows_ids_as_people_read_them() -> None:
    """A reason with a line end cannot forge a second line."""
    stream = io.StringIO()
    Report(stream=stream)(FAILED)
    (line,) = stream.getvalue().splitlines()
    assert (
        " warning delivery_failed: channel=adt destination=ehr delivery=0010000000001 attempt=2 state=waiting" in line
    )
    assert r'reason="503 \"busy\"\nsecond line"' in line


def test_json_line_holds_every_field() -> None:
    """One object per line, under the same names."""
    stream = io.StringIO()
    Report(lines="json", stream=stream)(FAILED)
    said = json.loads(stream.getvalue())
    assert said.pop("at").endswith("Z")
    assert list(said) == ["level", "notice", "channel", "destination", "delivery", "attempt", "state", "reason"]


def test_debug_notices_are_only_counted_unless_verbose() -> None:
    """A busy engine's log stays readable."""
    quiet, loud = io.StringIO(), io.StringIO()
    notice = Committed(units=3, seconds=0.001)
    report = Report(stream=quiet)
    report(notice)
    assert quiet.getvalue() == ""
    assert (report.hub.version, list(report.hub.recent)) == (1, [])
    assert sample(report, "handoff_store_units_total") == 3
    Report(verbose=True, stream=loud)(notice)
    assert "committed: units=3 seconds=0.001" in loud.getvalue()


def test_messages_and_deliveries_are_counted_by_how_they_ended() -> None:
    """The metrics are of messages, although notices come by batch."""
    report = Report(stream=io.StringIO())
    report(MessagesAccepted(channel="adt", count=5, duplicates=2))
    report(MessagesProcessed(channel="adt", processed=3, filtered=1, failed=1, seconds=0.01))
    report(DeliveriesEnded(channel="adt", destination="ehr", state="delivered", count=4, seconds=(0.2,)))
    assert sample(report, "handoff_messages_total", channel="adt", stage="accept", outcome="accepted") == 5
    assert sample(report, "handoff_messages_total", channel="adt", stage="accept", outcome="duplicate") == 2
    assert sample(report, "handoff_messages_total", channel="adt", stage="process", outcome="filtered") == 1
    assert sample(report, "handoff_deliveries_total", channel="adt", destination="ehr", outcome="delivered") == 4
    assert sample(report, "handoff_delivery_seconds_count", channel="adt", destination="ehr") == 1
    assert sample(report, "handoff_source_last_message_seconds", channel="adt") < 60


def test_warnings_of_validation_are_counted_by_channel_and_code() -> None:
    """The log of a sender that is always a little wrong stays readable."""
    stream = io.StringIO()
    report = Report(stream=stream)
    for count in (7, 2):
        report(ValidationWarned(channel="adt", code=102, count=count))
    report(ValidationWarned(channel="adt", code=199, count=1))
    assert sample(report, "handoff_validation_warnings_total", channel="adt", code="102") == 9
    assert sample(report, "handoff_validation_warnings_total", channel="adt", code="199") == 1
    assert stream.getvalue() == ""


def test_circuit_state_follows_the_breaker() -> None:
    """Open is 1, a probe on the wire one half, closed 0."""
    report = Report(stream=io.StringIO())
    where = {"channel": "adt", "destination": "ehr"}
    told = (
        (CircuitOpened(**where, seconds=1.0), 1),
        (CircuitProbed(**where), 0.5),
        (CircuitReopened(**where, seconds=2.0), 1),
        (CircuitClosed(**where), 0),
    )
    for notice, value in told:
        report(notice)
        assert sample(report, "handoff_circuit_state", **where) == value


def test_an_operators_hand_the_partners_wishes_and_expiry_are_counted() -> None:
    """A gauge for what lasts, counters for what happens."""
    report = Report(stream=io.StringIO())
    where = {"channel": "adt", "destination": "ehr"}
    report(Paused(**where, actor="ann"))
    assert sample(report, "handoff_paused", **where) == 1
    report(Resumed(**where, actor="ann"))
    assert sample(report, "handoff_paused", **where) == 0
    report(DestinationBusy(**where, seconds=7.0))
    assert sample(report, "handoff_destination_busy_total", **where) == 1
    report(DeliveriesExpired(**where, count=3))
    assert sample(report, "handoff_deliveries_total", **where, outcome="expired") == 3


def test_what_is_turned_away_or_not_kept_is_counted() -> None:
    """Also where it is no line of the log."""
    report = Report(stream=io.StringIO())
    report(QuarantineDropped(channel="adt", count=7, reason="they made room for others"))
    report(HandshakeFailed(channel="adt", peer="10.0.0.1:5", reason="TLS was not agreed on in time"))
    assert sample(report, "handoff_quarantine_dropped_total", channel="adt") == 7
    assert sample(report, "handoff_connections_refused_total", channel="adt") == 1
    assert [said["notice"] for said in report.hub.recent] == ["handshake_failed"]


def test_backlog_is_shown_as_of_now() -> None:
    """Queue gauges come from the store."""
    report = Report(stream=io.StringIO())
    text = report.metrics.show([Backlog("adt", "ehr", 7, 100.0, None, 2)], 160.0).decode()
    labels = '{channel="adt",destination="ehr"}'
    assert f"handoff_queue_depth{labels} 7.0" in text
    assert f"handoff_queue_oldest_seconds{labels} 60.0" in text
    assert f"handoff_dead_letters{labels} 2.0" in text


def test_views_are_bounded_and_independent() -> None:
    """A view that nobody reads loses its oldest notices, and grows no further."""
    report = Report(stream=io.StringIO())
    small, large = report.hub.subscribe(2), report.hub.subscribe(10)
    for _ in range(5):
        report(FAILED)
    assert (len(small), len(large)) == (2, 5)
    report.hub.unsubscribe(small)
    report(FAILED)
    assert (len(small), len(large)) == (2, 6)


def test_every_kind_of_notice_can_be_told() -> None:
    """Names are snake_case and levels are known."""
    kinds = [kind for kind in vars(notices).values() if isinstance(kind, type) and issubclass(kind, Notice)]
    assert {kind.level for kind in kinds} <= set(LEVELS)
    assert name_of(DestinationBusy) == "destination_busy"
    assert as_json(FAILED)["notice"] == "delivery_failed"


def test_unknown_form_of_lines_is_refused() -> None:
    """A typo in the settings is told."""
    with pytest.raises(ValueError, match="write text or json"):
        Report(lines="xml")
