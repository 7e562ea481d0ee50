"""This module is the process through which this engine writes to one patient store, at the far end of a `broker.link`.

The first frame is the store's URL. Each other asks for one batch, ``(number, channel, [(delivery id, request)])``, and
is answered by ``(number, outcomes)``; they are done in order, each in one transaction.
"""

import contextlib
import pickle
import time
from collections.abc import Sequence
from typing import Final

from broker.delivery import Delivery, Outcome, Rejected, Retry, Unknown
from broker.errors import NotReady, StoreError
from broker.line import Line
from broker.sql import Connection, connect
from dispatch.patients.apply import DELIVERED, Batch, CommitUnknown
from dispatch.patients.known import Known
from dispatch.patients.said import MISSHAPEN, Misshapen

_DATA_ERRORS: Final = frozenset({"IntegrityError", "DataError"})  # as every Python database driver names them

# Constraints that data can break, in an operator's words, and the place in the event.
TOO_LONG: Final = {
    "patient_mrn_length": ("the medical record number is longer than 256 characters", "patient.mrn"),
    "patient_identifier_length": ("an identifier is longer than 256 characters", "patient.identifiers"),
    "encounter_visit_length": ("the visit number is longer than 256 characters", "encounter.identifier"),
    "patient_source_length": ("the sending application or facility is longer than 256 characters", "source"),
}


def serve(line: Line) -> None:
    """Apply what comes, to the store that the first frame names, until the line ends."""
    frames = line.take()
    if frames is None:
        return
    applier = Applier(frames.pop(0))
    while frames is not None:
        for number, channel, items in frames:
            deliveries = [Delivery(id=found, route=0, key="", request=request) for found, request in items]
            line.send((number, _outcomes(applier.send(channel, deliveries))))
        frames = line.take()
    applier.drop()


def _outcomes(outcomes: Sequence[Outcome]) -> bytes | None:
    """Return outcomes as they go back: None where everything was delivered."""
    return None if all(outcome is DELIVERED for outcome in outcomes) else pickle.dumps(list(outcomes))


class Applier:
    """Applies batches to one patient store, one after the other; the store has been migrated."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: Connection | None = None
        self._known: Known | None = None

    def drop(self) -> None:
        """Let go of the connection."""
        if self._connection is not None:
            with contextlib.suppress(Exception):  # it may be broken, which is why it is dropped
                self._connection.close()
            self._connection = None

    def send(self, channel: str, deliveries: Sequence[Delivery]) -> list[Outcome]:
        """Apply deliveries of a channel; return one outcome each, in the same order."""
        try:
            return self._attempt(channel, deliveries)
        except CommitUnknown as error:
            self.drop()
            return [Unknown(f"patient store: the commit failed ({error.__cause__})")] * len(deliveries)
        except (StoreError, NotReady) as error:
            self.drop()
            return [Retry(str(error), is_away=True)] * len(deliveries)
        except Exception as error:  # noqa: BLE001 - a mistake of ours must not end the process for everybody
            self.drop()
            reason = f"patient store: our own mistake ({type(error).__name__}); please report it"
            return [Unknown(reason)] * len(deliveries)

    def _attempt(self, channel: str, deliveries: Sequence[Delivery]) -> list[Outcome]:
        if self._connection is None:
            self._connection = connect(self._url)
            self._known = Known(self._connection)
        batch = Batch(self._connection, channel, time.time(), self._known)
        try:
            return batch.apply(deliveries)
        except Misshapen:
            refused = MISSHAPEN
        except StoreError as error:
            reason = _refused(error)
            if reason is None:
                raise
            refused = reason
        if len(deliveries) == 1:
            return [refused]
        # One delivery spoils the batch: each on its own, so that the others go through.
        return [outcome for delivery in deliveries for outcome in self.send(channel, [delivery])]


def _refused(error: StoreError) -> Rejected | None:
    """Return why the data can never be stored, in words without data; None when the error lies elsewhere."""
    cause = error.__cause__
    if cause is None or _DATA_ERRORS.isdisjoint(kind.__name__ for kind in type(cause).__mro__):
        return None
    name = getattr(getattr(cause, "diag", None), "constraint_name", None) or str(cause).rpartition(": ")[2]
    text, location = TOO_LONG.get(name, (f"a value cannot be stored ({type(cause).__name__})", ""))
    return Rejected(f"patient store: {text}; correct it at the sender or in a step", location=location)
