"""This package is a practice SMS gateway and EHR, so that a newcomer sees texts and write-backs arrive."""

from typing import Final

# The variable by which the sandbox's process is told what accounts may send texts, with their tokens, in JSON.
ACCOUNTS: Final = "HANDOFF_SANDBOX_ACCOUNTS"
