"""Whatever becomes of the answers of systems on the web, nothing takes effect twice, and every attempt is the same."""

import json
import os
import random
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Final

import pytest
import pytest_asyncio

from tests.contract.scripted_server import Behaviour, hang_up, reply, reset
from tests.contract.systems import Asked, VendorServer, said
from tests.faults.harness.bench import Bench, set_up
from tests.faults.harness.invariants import drain, stored

_MESSAGES: Final = int(os.environ.get("FAULT_MESSAGES", "150"))
_SHARE: Final = 0.2  # of the writes whose answer is lost
_CHANNEL: Final = """\
channel: faults
listen:
  mllp: {{endpoint: 127.0.0.1:{port}, acknowledge: stored}}
order: PID-3[5=MR].1
index: {{mrn: "PID-3[5=MR].1", visit: PV1-19.1}}
steps:
  - canonical: {{}}
deliver:
  rows:
    http: {{system: crm, operation: upsert_patients, timeout: 1s, values: {{key: "{{{{ event.source.control_id }}}}"}}}}
    retry: {{attempts: 0, first: 50ms, max: 500ms}}
  tickets:
    http:
      system: desk
      operation: create_ticket
      values: {{subject: Call, text: "{{{{ event.source.control_id }}}}"}}
      timeout: 1s
    retry: {{attempts: 0, first: 50ms, max: 500ms}}
  hooks:
    http: {{system: hook, operation: send, timeout: 1s, values: {{data: {{id: "{{{{ event.source.control_id }}}}"}}}}}}
    retry: {{attempts: 0, first: 50ms, max: 500ms}}
  notes:
    http: {{system: notes, operation: post, timeout: 1s, values: {{body: {{id: "{{{{ event.source.control_id }}}}"}}}}}}
    retry: {{attempts: 0, first: 50ms, max: 500ms}}
"""

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(60 + _MESSAGES // 5)]


@dataclass
class Systems:
    """Four systems at one address: writes take effect, and then a share of the answers is lost in some way."""

    effects: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    came: dict[str, dict[str, set[bytes]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(set)))
    tickets: dict[str, int] = field(default_factory=dict)
    dice: random.Random = field(default_factory=lambda: random.Random(7))
    lost: int = 0

    def __call__(self, asked: Asked) -> Behaviour:
        system, _, path = asked.path.partition("/")
        answer: Behaviour = getattr(self, f"_{system}")(asked, path)
        if asked.method == "GET" or self.dice.random() >= _SHARE:
            return answer
        self.lost += 1
        return self.dice.choice([reset, hang_up, reply(500), reply(504), reply(200, b'{"truncated')])

    def _note(self, system: str, key: str, content: bytes) -> None:
        self.came[system][key].add(content)

    def _crm(self, asked: Asked, _path: str) -> Behaviour:
        rows: list[dict[str, Any]] = asked.body["records"]
        for row in rows:  # an upsert: one record of a key, however often it comes
            key = row["MRN__c"]
            self.effects["crm"][key] = 1
            self._note("crm", key, json.dumps(row).encode())
        return said(200, [{"id": row["MRN__c"], "success": True, "errors": []} for row in rows])

    def _desk(self, asked: Asked, _path: str) -> Behaviour:
        if asked.method == "GET":
            found = self.tickets.get(asked.query["external_id"])
            return said(200, {"tickets": [] if found is None else [{"id": found}]})
        key = asked.body["ticket"]["external_id"]
        self.tickets.setdefault(key, len(self.tickets) + 1)
        self.effects["desk"][key] += 1  # it makes another ticket each time that it is asked to
        self._note("desk", key, asked.raw)
        return said(201, {"ticket": {"id": self.tickets[key]}})

    def _hook(self, asked: Asked, _path: str) -> Behaviour:
        key = asked.headers["webhook-id"]
        self.effects["hook"][key] = 1  # a receiver tells repeats by this header
        self._note("hook", key, asked.raw)
        return reply(200)

    def _notes(self, asked: Asked, _path: str) -> Behaviour:
        key = asked.headers["x-request-id"]
        self.effects["notes"][key] += 1
        self._note("notes", key, asked.raw)
        return reply(200)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def ran(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Bench, Systems]]:
    folder = tmp_path_factory.mktemp("systems")
    systems = Systems()
    server = VendorServer(answers=systems)
    await server.start()
    base = f"{server.base}/api"
    settings = (
        "systems:\n"
        f"  crm: {{preset: salesforce, base: '{base}/crm', auth: {{bearer: {{token: '${{env:T:-sandbox}}'}}}}}}\n"
        f"  desk: {{preset: zendesk, base: '{base}/desk', auth: {{bearer: {{token: '${{env:T:-sandbox}}'}}}}}}\n"
        f"  hook: {{preset: webhook, base: '{base}/hook', signing_secret: '${{env:T:-sandbox}}'}}\n"
        f"  notes: {{base: '{base}/notes'}}\n"
    )
    async with set_up(folder, lambda port: _CHANNEL.format(port=port), settings=settings, patients=200) as bench:
        await bench.engine.start()
        messages = [bench.feed.next() for _ in range(_MESSAGES)]
        for first in range(0, len(messages), 500):
            await bench.send(*messages[first : first + 500])
        await drain(bench.engine, 30 + _MESSAGES / 10)
        yield bench, systems
    await server.stop()


async def test_answers_were_lost(ran: tuple[Bench, Systems]) -> None:
    _, systems = ran
    assert systems.lost >= _MESSAGES * _SHARE


@pytest.mark.parametrize("system", ["crm", "desk", "hook", "notes"])
async def test_nothing_takes_effect_twice_and_every_attempt_is_the_same(
    ran: tuple[Bench, Systems], system: str
) -> None:
    _, systems = ran
    effects = systems.effects[system]
    assert len(effects) == _MESSAGES
    assert set(effects.values()) == {1}
    assert {len(contents) for contents in systems.came[system].values()} == {1}


@pytest.mark.parametrize(
    ("destination", "states"),
    [
        ("rows", {"delivered"}),
        ("tickets", {"delivered"}),
        ("hooks", {"delivered"}),
        ("notes", {"delivered", "held"}),
    ],
)
async def test_deliveries_end_as_their_operation_allows(
    ran: tuple[Bench, Systems], destination: str, states: set[str]
) -> None:
    """What can be repeated is delivered in the end; of what cannot, the share whose answer was lost is held."""
    bench, _ = ran
    found = [one.deliveries[destination].state for each in stored(bench.engine).values() for one in each]
    assert set(found) == states
    assert len(found) == _MESSAGES


async def test_nothing_of_a_patient_is_in_the_log(ran: tuple[Bench, Systems]) -> None:
    bench, _ = ran
    assert bench.engine.secrets_shown() == []
