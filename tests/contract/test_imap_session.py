"""This module shows how we take servers that answer as Dovecot does not: old, strict and hostile ones."""

import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from broker.errors import Away
from broker.tls import TlsSpec, make_context
from listeners import mail_session
from listeners.mail_session import Login, MailSession, Refused

PASSWORD: Final = "s3cret"
# What a server says to a command, by how the command begins; the tag and what it ends with are put around it.
USUAL: Final = {
    "": "* OK hello",  # the greeting
    "CAPABILITY": "* CAPABILITY IMAP4rev1",
    "LOGIN": "",
    "SELECT": "* 2 EXISTS\r\n* OK [UIDVALIDITY 7] valid",
    "UID SEARCH": "* SEARCH 12 3",
    "UID": "",
    "LOGOUT": "* BYE",
}


class Scripted:
    """A server for one connection that answers as it is told, and keeps what was asked; NO stands for a refusal."""

    def __init__(self, answers: dict[str, str]) -> None:
        self.asked: list[str] = []
        self._answers = {**USUAL, **answers}
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        opened, _ = self._listening.accept()
        with opened, opened.makefile("rwb", buffering=0) as file:
            file.write(f"{self._answers['']}\r\n".encode())
            while line := file.readline():
                tag, _, command = line.decode().strip().partition(" ")
                self.asked.append(command)
                word = max((word for word in self._answers if command.startswith(word)), key=len)
                if not self._answer(file.write, tag, self._answers[word]):
                    return

    def _answer(self, write: Callable[[bytes], object], tag: str, answer: str) -> bool:
        """Answer one command; return False where the connection is to end."""
        if answer == "END":
            return False
        untagged = "" if answer == "NO" else answer
        said = f"{untagged}\r\n" if untagged else ""
        try:
            write(f"{said}{tag} {'NO nothing of it' if answer == 'NO' else 'OK done'}\r\n".encode())
        except OSError:
            return False
        return True

    def close(self) -> None:
        self._listening.close()
        self._thread.join(10)


@contextmanager
def serving(**answers: str) -> Iterator[tuple[Scripted, Callable[..., MailSession]]]:
    """Give a server with answers, by the commands' words, and what opens a session with it."""
    server = Scripted({word.replace("_", " ").strip(): answer for word, answer in answers.items()})
    sessions: list[MailSession] = []

    def enter(folder: str = "INBOX", tls: str = "none", password: str = PASSWORD, token: str = "") -> MailSession:
        login = Login(
            name="lab",
            host="127.0.0.1",
            port=server.port,
            tls=tls,
            account='l"ab',
            password=password,
            context=lambda: make_context(TlsSpec(), Path(), ""),
            server_name="127.0.0.1",
            timeout=5.0,
            token=token,
        )
        sessions.append(MailSession(login, folder))
        return sessions[-1]

    try:
        yield server, enter
    finally:
        for session in sessions:
            session.close()
        server.close()


def test_old_server_is_asked_in_words_that_it_knows() -> None:
    with serving() as (server, enter):
        session = enter(folder='Bef"unde & Größe')
        assert (session.validity, session.find(unseen=True), session.find(unseen=False)) == (7, [3, 12], [3, 12])
        session.move(3, "Fertig")
        session.mark_seen(12)
    assert [re.sub(r"^UID ", "", asked) for asked in server.asked[1:]] == [
        r'LOGIN "l\"ab" "s3cret"',
        "CAPABILITY",
        r'SELECT "Bef\"unde &- Gr&APYA3w-e"',
        "SEARCH 1:* UNDELETED UNSEEN",
        "SEARCH 1:* UNDELETED",
        'COPY 3 "Fertig"',
        r"STORE 3 +FLAGS.SILENT (\Deleted)",
        r"STORE 12 +FLAGS.SILENT (\Seen)",
        "LOGOUT",
    ]


@pytest.mark.parametrize(
    ("answers", "told"),
    [
        ({"LOGIN": "NO"}, "refused our account or password"),
        ({"LOGIN": "END"}, "ended the connection"),
        ({"CAPABILITY": "* CAPABILITY IMAP4rev1 LOGINDISABLED"}, "no way to log in that we know"),
        ({"CAPABILITY": "* CAPABILITY POP3"}, "no IMAP"),
        ({"SELECT": "NO"}, "no folder of the declared name"),
        ({"SELECT": "* OK [READ-ONLY]"}, "may be read only"),
        ({"SELECT": "* 2 EXISTS"}, "no UIDVALIDITY"),
        ({"SELECT": "* OK [UIDVALIDITY x]"}, "no UIDVALIDITY"),
        ({"": "* BYE"}, "ended the connection"),
        ({"": "+OK POP3"}, "no IMAP"),
    ],
)
def test_server_that_does_not_let_us_look_is_told(answers: dict[str, str], told: str) -> None:
    with serving(**answers) as (_, enter), pytest.raises(Away, match=told) as error:
        enter()
    assert "nothing of it" not in str(error.value)


def test_password_that_cannot_be_said_is_refused_here() -> None:
    with serving() as (_, enter), pytest.raises(Away, match="refused our account or password"):
        enter(password="päss")


def test_server_without_a_way_to_show_a_token_is_told() -> None:
    answers = {"CAPABILITY": "* CAPABILITY IMAP4rev1 AUTH=PLAIN"}
    with serving(**answers) as (server, enter), pytest.raises(Away, match="no way to log in that we know"):
        enter(token="abc")
    assert server.asked == ["CAPABILITY", "LOGOUT"]


def test_server_without_starttls_gets_no_password() -> None:
    with serving() as (server, enter), pytest.raises(Away, match="offers no STARTTLS"):
        enter(tls="starttls")
    assert server.asked == ["CAPABILITY", "LOGOUT"]


def test_connection_that_is_logged_in_already_needs_no_password_but_may_need_tls() -> None:
    answers = {"": "* PREAUTH hello", "CAPABILITY": "* CAPABILITY IMAP4rev1 STARTTLS"}
    with serving(**answers) as (server, enter):
        assert enter().find(unseen=False) == [3, 12]
    assert not [asked for asked in server.asked if asked.startswith("LOGIN")]
    with serving(**answers) as (_, enter), pytest.raises(Away, match="offers no STARTTLS"):
        enter(tls="starttls")


def test_server_that_refuses_a_command_is_told() -> None:
    with serving(UID="NO", UID_SEARCH="NO", CREATE="NO", SUBSCRIBE="NO") as (_, enter):
        session = enter()
        with pytest.raises(Away, match="does not search"):
            session.find(unseen=True)
        with pytest.raises(Refused, match="does not give it"):
            session.fetch(1, 10)
        with pytest.raises(Refused, match="cannot be moved"):
            session.move(1, "x")
        with pytest.raises(Refused, match="cannot be deleted"):
            session.delete(1)
        with pytest.raises(Refused, match="cannot be marked"):
            session.mark_seen(1)


def test_many_mails_are_searched_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mail_session, "_AT_ONCE", 2)
    for count, searches in (("5", ["1:2", "3:4", "5:*"]), ("4", ["1:2", "3:*"]), ("0", []), ("", [])):
        exists = f"* {count} EXISTS\r\n" if count else ""
        with serving(SELECT=f"{exists}* OK [UIDVALIDITY 7] valid") as (server, enter):
            assert enter().find(unseen=False) == ([3, 12] if searches else [])
        wanted = [f"UID SEARCH {which} UNDELETED" for which in searches]
        assert [asked for asked in server.asked if "SEARCH" in asked] == wanted


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ("", None),
        (r"* 1 FETCH (UID 1 FLAGS (\Seen))", None),
        ('* 1 FETCH (UID 1 BODY[]<0> "")', b""),
        ("* 1 FETCH (BODY[]<0> {3}\r\nabc UID 1)", b"abc"),
        ("* 9 FETCH (FLAGS ())\r\n* 1 FETCH (UID 1 BODY[]<0> {3}\r\nabc)\r\n* 2 EXISTS", b"abc"),
    ],
)
def test_mail_is_found_in_what_a_server_answers(answer: str, found: bytes | None) -> None:
    with serving(UID_FETCH=answer) as (server, enter):
        assert enter().fetch(1, 10) == found
    assert "UID FETCH 1 (BODY.PEEK[]<0.11>)" in server.asked


def test_server_that_says_more_than_it_was_asked_for_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mail_session, "_BESIDE", 500)
    for answer in (f"* 1 FETCH (BODY[]<0> {{{1 << 40}}}\r\nabc", "* 1 EXISTS\r\n" * 100):
        with serving(UID_FETCH=answer) as (_, enter):
            session = enter()
            with pytest.raises(Away, match="ended the connection"):
                session.fetch(1, 10)


def test_connection_that_ends_is_told() -> None:
    with serving(UID_SEARCH="END") as (_, enter), pytest.raises(Away, match="ended the connection"):
        enter().find(unseen=True)
    with serving() as (_, enter):
        session = enter()
        session.cut()
        with pytest.raises(Away):
            session.mark_seen(1)
