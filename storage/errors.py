"""The errors of PairForge, drawn once.

PairForgeError
    SourceError      this image is unusable                     a reject with a reason, never retried
    ShardError       bytes are not as promised (hash, version)  the shard fails, loudly
    TransientError   network, 5xx, pre-emption                  retried with backoff
    SettingsError    a settings file, path or flag is wrong     exit status 2, one sentence
    LeaseError       another builder holds the dataset          exit status 1, one sentence

ValueError and TypeError mean that the caller is wrong; AssertionError that we are wrong. All take plain positional
arguments, because an exception with keyword-only arguments does not survive the way back from a Ray worker.
"""


class PairForgeError(Exception):
    """Anything PairForge raises on purpose; `str()` is one sentence for a person."""


class SourceError(PairForgeError):
    """This image is unusable: `reason` is the slug the ledger counts, the message says what was found."""

    def __init__(self, reason: str, message: str = "") -> None:
        super().__init__(reason, message)
        self.reason = reason

    def __str__(self) -> str:
        return str(self.args[1] or self.args[0])


class ShardError(PairForgeError):
    """Stored bytes are not what their commit, manifest or format promises."""


class TransientError(PairForgeError):
    """Something outside failed in a way that may pass: worth another try later."""


class SettingsError(PairForgeError):
    """A settings file, a path or a flag is wrong; the message names the file, the key and the fix."""


class LeaseError(PairForgeError):
    """Another builder holds the dataset; the message says who and since when."""
