"""This package is e-mail: addresses, the message on the wire, and the exchange with a mail server."""
