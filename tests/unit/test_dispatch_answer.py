"""The answer to whoever sent a message is the template's text, safe in its place, and delivered as it is."""

from pathlib import Path
from typing import Any

import pytest

from broker.delivery import Delivered, Delivery
from broker.message import Document
from dispatch.answer import AnswerOutSpec
from transforms.kit import Kit


def rendered(value: str, **options: Any) -> bytes:
    kit = Kit(Path()).knowing("name")
    render = AnswerOutSpec.model_validate(options).build_renderer(kit)
    return render(Document(message=None, received_at=0.0, values={"name": value}))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"body": '{"name": {{ name }}}'}, b'{"name": "O\\"K"}'),
        ({"body": "{{ name }}", "escape": "text"}, b'O"K'),
        ({"body": "MSH|^~\\&|A|B|||||ACK|1|P|2.5\nMSA|AA|{{ name }}\n", "escape": "hl7"}, b'\rMSA|AA|O"K\r'),
    ],
)
def test_text_is_safe_in_its_place(options: dict[str, Any], expected: bytes) -> None:
    assert expected in rendered('O"K', **options)


async def test_answer_is_delivered_as_it_was_rendered() -> None:
    tools: Any = None
    answering = AnswerOutSpec.model_validate({"body": "x"}).build(tools)
    await answering.open()
    asked = [Delivery(id=number, route=1, key="k", request=b"%d" % number) for number in (1, 2)]
    assert await answering.send(asked) == [Delivered(response=b"1"), Delivered(response=b"2")]
    await answering.close()
