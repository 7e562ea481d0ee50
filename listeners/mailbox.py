"""This module reads a mailbox for one channel: it looks at its folder, and takes each mail in its turn."""

import contextlib
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, TypeVar

from broker.crash import crash_point
from broker.errors import Away, NotReady
from broker.notices import Bug
from broker.notices_mail import MailFailed, MailRead, MailRefused
from broker.parts import Tools
from broker.threads import NotBegun, Threads
from broker.tokens import Tokens
from listeners.file_reading import Ended, FileReading, Means
from listeners.mail_ledger import Ledger, Place
from listeners.mail_parts import Stranger, Unreadable, identify, read_mail
from listeners.mail_session import Login, MailSession, NotLetIn, Refused
from listeners.notes import Notes
from listeners.polling import Polling, PollListener
from listeners.source import why
from listeners.unpacking import UnpackSpec

if TYPE_CHECKING:
    from listeners.imap import ImapSpec

R = TypeVar("R")

_SLOWEST: Final = 16_384  # bytes a second below which a mail is given up
_ANSWERS: Final = 8  # of the server, to the commands of one step


class MailboxListener(PollListener):
    """Polls one folder of one mailbox for one channel; see `broker.parts.Listener`."""

    def __init__(
        self, spec: "ImapSpec", tools: Tools, login: Login, folder: Path, tokens: Tokens | None = None
    ) -> None:
        self._spec = spec
        self._rules = spec.rules()
        self._tools = tools
        self._login = login
        self._tokens = tokens  # none where there is a password
        self._folder = folder  # of ours, for files while they are read
        self._ledger = Ledger(folder / "mails")
        self._notes = Notes(folder)
        self._left: set[Place] = set()  # mails that the server leaves where they are
        self._stuck: set[Place] = set()  # mails that were begun and not ended
        self._endpoint = f"mailbox {spec.mailbox}:{spec.folder}"
        self._polling = Polling(tools, self._endpoint, spec.schedule.schedule(), spec.catch_up, self._look)
        self._threads = Threads(f"poll {tools.channel}", 4)
        self._means = Means(tools, self._threads, self._notes, UnpackSpec(), lambda: self._polling.is_stopping)

    async def start(self) -> None:
        """Begin to watch the clock; a server that is away is no reason not to. Raises `NotReady`."""
        try:
            await self._threads.run(self._ledger.open)
            await self._threads.run(self._notes.open)
        except NotReady as error:
            raise NotReady(f"channel {self._tools.channel}: {error}") from None
        self._left, self._stuck = set(), set()
        if self._tokens is not None:
            await self._tokens.open()
        self._polling.start()

    async def stop(self) -> None:
        """Begin no other mail, and wait at most 10 seconds for the one under way; the rest is read after a start."""
        if await self._polling.stop() and self._tokens is not None:
            await self._tokens.close()

    async def _look(self) -> None:
        """Take every mail that is there, the oldest first, until a stop comes."""
        session = await self._enter()
        try:
            found = await self._ask(session, lambda: session.find(unseen=self._spec.only_unseen))
            # One over which the connection ended keeps none behind it from being taken.
            for uid in sorted(found, key=lambda uid: ((session.validity, uid) in self._stuck, uid)):
                if not await self._polling.wait_for_room():
                    return
                place = (session.validity, uid)
                if place not in self._left:
                    self._stuck.add(place)
                    await self._take(session, uid)
                    self._stuck.remove(place)
            self._polling.recover()
        except OSError as error:  # those of the connection have other names by now
            raise Away(f"what was fetched cannot be written on this machine ({why(error)})") from None
        finally:
            with contextlib.suppress(Away):
                await self._ask(session, session.close)

    async def _enter(self) -> MailSession:
        """Open the folder over a new connection."""
        if self._tokens is None:
            return await self._run(lambda: MailSession(self._login, self._spec.folder))
        login = replace(self._login, token=await self._tokens.token())
        try:
            return await self._run(lambda: MailSession(login, self._spec.folder))
        except NotLetIn:
            self._tokens.refuse()
            raise

    async def _take(self, session: MailSession, uid: int) -> None:
        """Read a mail, and see to it that it is not read again."""
        most = self._spec.max_size
        tell = self._tell
        try:
            raw = await self._ask(session, lambda: session.fetch(uid, most), most)
            if raw is None:  # somebody else was there first
                return
            ended = await self._read(session.validity, uid, raw)
        except Refused as refusal:
            ended = Ended(reason=str(refusal))
        except Stranger as stranger:
            ended, tell = Ended(reason=str(stranger)), self._tell_of_stranger
        if ended.is_stopped:
            return
        crash_point("poll.committed")
        try:
            await self._ask(session, lambda: self._end(session, uid, well=not ended.reason))
        except Refused as refusal:
            self._left.add((session.validity, uid))
            ended.reason = f"{ended.reason}; {refusal}".removeprefix("; ")
        crash_point("poll.settled")
        tell(f"{self._spec.folder} {uid}", ended)

    async def _read(self, validity: int, uid: int, raw: bytes) -> Ended:
        """Hand over everything that is a message in a mail; say how that ended. Raises `Stranger`."""
        try:
            parts = await self._threads.run(lambda: read_mail(raw, self._rules))
        except Unreadable as trouble:
            self._tools.intake.quarantine(self._tools.channel, f"{self._endpoint} {uid}", str(trouble), raw)
            return Ended(reason=str(trouble))
        place = await self._threads.run(lambda: self._ledger.first_place(identify(raw), (validity, uid)))
        return await self._hand_over(parts, f"{self._spec.mailbox}/{self._spec.folder}/{place[0]}-{place[1]}")

    async def _hand_over(self, parts: list[bytes], name: str) -> Ended:
        """Hand over the messages of each part, which is known by its number and by what is in it."""
        whole = Ended()
        names = [f"{name}/{number}" for number in range(1, len(parts) + 1)]
        for called, part in zip(names, parts, strict=True):
            ended = await self._read_part(part, called)
            whole.messages += ended.messages
            whole.duplicates += ended.duplicates
            whole.refused += ended.refused
            whole.reason = whole.reason or ended.reason
            if ended.is_stopped:
                whole.is_stopped = True
                return whole
        await self._threads.run(lambda: self._notes.forget_position(*names))
        return whole

    async def _read_part(self, part: bytes, name: str) -> Ended:
        file = await self._threads.run(lambda: _written(part, self._folder))
        with file:
            reading = FileReading(file, name, self._means)
            try:
                await reading.prepare()
                await reading.hand_over()
            except Exception as error:  # noqa: BLE001 - a mail that we stumble over must not stop those behind it
                self._tools.notify(Bug(where=f"poll {self._tools.channel}", error=type(error).__name__))
                reading.fail("reading it failed, which is a mistake of ours; the log names it")
            return await reading.finish()

    def _end(self, session: MailSession, uid: int, *, well: bool) -> None:
        if not well:
            session.move(uid, self._spec.failed)
        elif self._spec.after == "move":
            session.move(uid, self._spec.done)
        elif self._spec.after == "delete":
            session.delete(uid)
        else:
            session.mark_seen(uid)

    def _tell(self, mail: str, ended: Ended) -> None:
        channel, mailbox, messages = self._tools.channel, self._spec.mailbox, ended.messages
        if ended.reason:
            self._tools.notify(
                MailFailed(channel=channel, mailbox=mailbox, mail=mail, messages=messages, reason=ended.reason)
            )
        else:
            self._tools.notify(
                MailRead(channel=channel, mailbox=mailbox, mail=mail, messages=messages, duplicates=ended.duplicates)
            )

    def _tell_of_stranger(self, mail: str, ended: Ended) -> None:
        self._tools.notify(
            MailRefused(channel=self._tools.channel, mailbox=self._spec.mailbox, mail=mail, reason=ended.reason)
        )

    async def _ask(self, session: MailSession, work: Callable[[], R], size: int = 0) -> R:
        """Ask a server over its connection; that ends where no answer comes."""
        try:
            return await self._run(work, size)
        except Away:
            session.cut()
            raise

    async def _run(self, work: Callable[[], R], size: int = 0) -> R:
        """Work on the mailbox in a thread; raise `Away` where there is no answer in time."""
        try:
            return await self._threads.run(work, _ANSWERS * self._login.timeout + size / _SLOWEST)
        except (TimeoutError, NotBegun):
            raise Away("its server did not answer within the time allowed") from None


def _written(part: bytes, folder: Path) -> BinaryIO:
    """Return a part as a file without a name, which a crash does not leave behind."""
    with contextlib.ExitStack() as unless_whole:
        file: BinaryIO = unless_whole.enter_context(tempfile.TemporaryFile(dir=folder))
        file.write(part)
        file.seek(0)
        unless_whole.pop_all()
        return file
