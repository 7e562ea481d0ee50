"""This module writes mails as laboratories and clinics send them, and as nobody should."""

from email.message import EmailMessage

SENDER = "results@lab.example.org"


def mail(
    *attachments: tuple[str, bytes],
    sender: str = f'"Lab, St. Mary" <{SENDER}>',
    text: str = "Please find the results attached.\n",
    number: int = 1,
) -> bytes:
    """Return a mail with attachments, each a name and what is in it, as a server keeps it."""
    message = EmailMessage()
    message["From"] = sender
    message["To"] = "handoff@clinic.example.org"
    message["Subject"] = "Results of Okafor"
    message["Date"] = "Wed, 18 Mar 2026 14:15:00 +0100"
    message["Message-ID"] = f"<{number}@lab.example.org>"
    message.set_content(text)
    for name, content in attachments:
        message.add_attachment(content, maintype="application", subtype="octet-stream", filename=name)
    return in_transit(message)


def in_transit(message: EmailMessage) -> bytes:
    """Return the bytes of a mail with the line ends that mail has."""
    return message.as_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
