"""Why there is no connection is said in the same words by every part, and never in those of the error."""

import socket
import ssl

import pytest

from broker.handshake import not_connected

DOUBTFUL = ssl.SSLCertVerificationError("a secret")
DOUBTFUL.verify_code = 62


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (socket.gaierror("a secret"), "its host name could not be resolved"),
        (ConnectionRefusedError("a secret"), "the connection was refused"),
        (TimeoutError("a secret"), "no connection within the time allowed"),
        (DOUBTFUL, "TLS could not be set up (its certificate is for another name)"),
        (ssl.SSLError("a secret"), "TLS could not be set up (certificate or protocol refused)"),
        (OSError("a secret"), "no connection (OSError)"),
        (ValueError("a secret"), "no connection (ValueError)"),
    ],
)
def test_why_there_is_no_connection(error: Exception, words: str) -> None:
    assert not_connected(error) == words


def test_who_was_further_has_words_of_its_own() -> None:
    assert not_connected(TimeoutError(), late="no answer", other="the session broke") == "no answer"
    assert not_connected(EOFError(), late="no answer", other="the session broke") == "the session broke (EOFError)"
