"""A worker process whose one step does what the message says: the real worker, with a dangerous program."""

import os
import signal
import time

import config.process
from broker.errors import StepError
from broker.formats.hl7 import Hl7
from broker.message import Document
from config.program import Exit, Program


def obey(document: Document) -> Document:  # noqa: C901 - one line for each danger
    """Do what MSH-10 says."""
    order = document.message.get("MSH-10") or ""
    if order.startswith("loop"):
        while True:
            pass
    if order.startswith("sleep"):
        time.sleep(60)
    if order.startswith("exit"):
        os._exit(3)
    if order.startswith("crash"):
        os.kill(os.getpid(), signal.SIGSEGV)
    if order.startswith("memory"):
        document.values["x"] = bytearray(1 << 40)
    if order.startswith("deep"):
        return obey_deeper(document)
    if order.startswith("raise"):
        raise ZeroDivisionError("a name that must not show")
    if order.startswith("refuse"):
        raise StepError("PV1-3 is missing", location="PV1-3")
    if order.startswith("print"):
        print("this must not end up in the answers")  # noqa: T201 - that is the danger
    return document


def obey_deeper(document: Document) -> Document:
    """Recurse until it fails."""
    return obey_deeper(document)


def load(_content: bytes) -> Program:
    """Build the dangerous program."""
    exits = [Exit("sink", None, lambda document: (document.message.get("MSH-10") or "").encode())]
    return Program([("1 script", obey)], None, exits, Hl7().document)


if __name__ == "__main__":
    Program.load = staticmethod(load)  # type: ignore[method-assign,assignment]
    config.process.main()
