"""Channels that pass messages on: what the other one gets, and what its answer means."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from broker.delivery import Delivered, Delivery, Outcome, Rejected, Retry
from broker.errors import NotAccepted, StepError
from broker.ids import show
from broker.message import Document, Inbound
from broker.notices import ListenerStarted, Notice
from broker.parts import Tools
from broker.units import Commit, Recorded
from broker.wire.er7 import Message
from dispatch.channel import ChannelOutSpec
from listeners.channel import ChannelInSpec
from tests.intake import NoIntake
from tests.project import CHANNEL, Project
from transforms.kit import Kit

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

RAW = b"MSH|^~\\&|E|M|X|Y|1||ADT^A08|C1|P|2.5.1\rPID|1||0012||Okafor\r"
ID = 5 << 22


class Intake(NoIntake):
    """Takes everything, or refuses it."""

    def __init__(self, refusal: Exception | None = None) -> None:
        self.got: list[Inbound] = []
        self.refusal = refusal

    def pass_on(self, inbound: Inbound) -> Commit:
        if self.refusal is not None:
            raise self.refusal
        self.got.append(inbound)
        return self.commit

    def commit(self, recorded: Recorded) -> "asyncio.Future[tuple[Recorded, Sequence[int] | Exception]]":
        """Never be asked to: whoever sends it does not commit it."""
        raise AssertionError(recorded)

    def quarantine(self, *_: object) -> None:
        """Never be asked to."""
        raise AssertionError


async def send(intake: Intake) -> Outcome:
    notices: list[Notice] = []
    tools = Tools(channel="west", intake=intake, notify=notices.append, settings=None)
    destination = ChannelOutSpec.model_validate({"to": "east"}).build(tools)
    await destination.open()
    (outcome,) = await destination.send([Delivery(id=ID + 2, route=1, key="k1", request=RAW)])
    await destination.close()
    return outcome


async def test_other_channel_gets_the_message_under_the_key_and_from_whom() -> None:
    intake = Intake()
    outcome = await send(intake)
    assert isinstance(outcome, Delivered)
    assert outcome.commit == intake.commit
    (got,) = intake.got
    assert (got.channel, got.body, got.key, got.peer) == ("east", RAW, b"k1", f"channel:west/{show(ID)}")
    assert got.received_at > 0


@pytest.mark.parametrize(
    ("refusal", "kind"),
    [
        (NotAccepted("the message could not be stored; send it again"), Retry),
        (NotAccepted("MSH-9: missing", code="AR", condition=101, location="MSH-9"), Rejected),
        (KeyError("east"), Retry),
    ],
)
async def test_refusal_says_whose_fault_it_is(refusal: Exception, kind: type) -> None:
    outcome = await send(Intake(refusal))
    assert isinstance(outcome, kind)
    assert "channel east: " in repr(outcome)


def rendered(**options: Any) -> bytes:
    kit: Any = Kit(None)  # type: ignore[arg-type] # nothing is read from a folder
    spec = ChannelOutSpec.model_validate({"to": "east", **options})
    return spec.build_renderer(kit)(Document(message=Message.parse(RAW), received_at=0.0))


def test_message_is_the_one_received_or_one_of_a_template() -> None:
    assert rendered() == RAW
    assert rendered(message='{"mrn": {{ PID-3 }}}', escape="json") == b'{"mrn": "0012"}'
    head = "MSH|^~\\&|H||E||1||ADT^A08|{{ MSH-10 }}|P|2.5.1\n"
    assert rendered(message=head, escape="hl7").endswith(b"|C1|P|2.5.1\r")
    with pytest.raises(StepError, match="the message is empty"):
        rendered(message="{{ PID-4 }}")


async def test_channel_that_only_gets_messages_from_others_listens_to_nobody() -> None:
    notices: list[Notice] = []
    tools = Tools(channel="east", intake=Intake(), notify=notices.append, settings=None)
    listener = ChannelInSpec().build(tools)
    assert (listener.endpoints, listener.connections) == ((), 0)
    await listener.start()
    assert listener.endpoints == ("other channels",)
    assert notices == [ListenerStarted(channel="east", endpoint="other channels")]
    await listener.stop()
    assert not listener.endpoints


# What check says.


def relay(name: str, *to: str, form: str = "hl7", message: str = "") -> str:
    ways = "".join(f"  way{number}: {{channel: {{to: {other}{message}}}}}\n" for number, other in enumerate(to))
    return f"channel: {name}\nformat: {form}\nlisten:\n  channel: {{}}\ndeliver:\n{ways or '  store: {prm: {}}'}\n"


@pytest.fixture
def project(tmp_path: Path) -> Project:
    project = Project(tmp_path)
    project.channel(CHANNEL.partition("deliver:")[0] + "deliver:\n  on: {channel: east}\n")
    return project


def told(project: Project) -> list[str]:
    return [line for line in project.told() if "E31" in line]


def test_check_takes_channels_that_fit(project: Project) -> None:
    project.channel(relay("east", "north", "south"), "east")
    project.channel(relay("north", "south"), "north")
    project.channel(relay("south"), "south")
    assert not told(project)


def test_check_refuses_a_channel_that_is_not_there(project: Project) -> None:
    project.channel(relay("easy"), "easy")
    (line,) = told(project)
    assert line.startswith("feed.yaml:")
    assert 'E311] deliver.on.channel.to names "east", which is no channel (did you mean "easy"?' in line


def test_check_refuses_a_channel_that_reads_another_format(project: Project) -> None:
    project.channel(relay("east", form="json"), "east")
    (line,) = told(project)
    assert "messages of this channel are hl7, and that channel takes json" in line
    project.channel(
        CHANNEL.partition("deliver:")[0]
        + "deliver:\n  on:\n    channel: {to: east, escape: json, message: '{\"mrn\": {{ PID-3 }}}'}\n"
    )
    assert not told(project)


def test_check_refuses_circles_once_each(project: Project) -> None:
    project.channel(relay("east", "north", "east"), "east")
    project.channel(relay("north", "south"), "north")
    project.channel(relay("south", "north", "feed"), "south")
    lines = told(project)
    circles = {line.partition("circle: ")[2].partition(" (")[0] for line in lines}
    assert len(lines) == len(circles) == 3
    assert "east → east" in circles
    assert "north → south → north" in circles
