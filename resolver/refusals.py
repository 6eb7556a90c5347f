"""Every way a request can be refused: its code, HTTP status, exit code and next step.

The API sends the code, the command line turns it into an exit code, the README prints this table:
they agree because there is no other place. Imports nothing but the standard library, so that the
command line starts fast.
"""

from enum import Enum


class Refusal(Enum):
    """(HTTP status, exit code of ``blockstore-cli``, what it means, what to do next)."""

    BAD_NAME = (
        400,
        12,
        "the name is malformed",
        "a name is LABEL.NAMESPACE of a-z, 0-9, - and _; a bare label means LABEL.id",
    )
    NOT_REGISTERED = (
        404,
        4,
        "the name is not registered",
        "check the spelling; if it was registered just now, wait for its confirmations",
    )
    EXPIRED = (
        404,
        5,
        "the name has expired",
        "its former owner may register it again, and so may anybody",
    )
    REVOKED = (
        404,
        6,
        "the name was revoked by its owner",
        "it holds no data until it expires and is registered again",
    )
    NO_DATA = (
        404,
        7,
        "the name is registered and no data was ever announced for it",
        "its owner announces data by an update of the name",
    )
    DATA_UNAVAILABLE = (
        504,
        8,
        "the name is live, and nobody who was asked has its data",
        "try again in a minute; whoever has the data publishes it with `blockstore-cli put FILE`",
    )
    HASH_MISMATCH = (
        502,
        9,
        "only data that does not match the hash on the chain was offered",
        "try again later; add honest peers with the setting dht_bootstrap",
    )
    INDEX_BEHIND = (
        503,
        10,
        "the index does not know the present state of the chain",
        "try again when it has caught up; `blockstored status` says how far it is",
    )
    NOT_ANNOUNCED = (
        409,
        11,
        "no live name announces the hash of this data",
        "update the name with this hash first, and wait for the confirmations",
    )
    TOO_LARGE = (
        413,
        13,
        "the data is too large",
        "at most 40960 bytes are kept for a name",
    )
    ARCHIVE_FULL = (
        507,
        14,
        "this node keeps as much data as it may",
        "raise the setting archive_max_bytes",
    )
    BAD_DATA = (
        400,
        19,
        "the data is neither a zone file nor JSON",
        "mend it, or give --raw if it is meant so",
    )
    NEEDS_TOKEN = (
        401,
        20,
        "this is only for the daemon's own user",
        "run it as that user on the daemon's machine, without --host and --port",
    )
    NOT_POSSIBLE = (
        409,
        21,
        "the chain would not take it, or it cannot be paid; nothing was paid",
        "the message says why",
    )
    NO_SUCH_JOB = (
        404,
        22,
        "nothing of this id was begun here",
        "`blockstore-cli pending --all` lists what was",
    )
    NODE_AWAY = (
        503,
        23,
        "the Bitcoin node or its wallet cannot be asked",
        "look after the node; `blockstored status` says what it answered",
    )
    BAD_REQUEST = (
        400,
        2,
        "the request cannot be understood",
        "mend what the message names; --help, or /v1/openapi.json, says what is taken",
    )
    NOT_ON_CHAIN = (
        404,
        1,
        "the index has nothing of this",
        "check it; a transaction is there after its confirmations, a block when it is indexed",
    )
    FORBIDDEN = (
        403,
        1,
        "the request was not made for this server",
        "ask by the address it listens on, or list the host name in the setting api_names",
    )
    NO_SUCH_PAGE = (404, 1, "there is no such page", "/v1/openapi.json lists all pages")
    WRONG_METHOD = (405, 1, "the page has no such method", "use one of the methods in Allow")
    BUSY = (503, 1, "the server does as much of this as it may", "try again in a minute")
    BROKEN = (500, 1, "something broke in the server", "the log of blockstored says what")

    def __init__(self, status: int, exit_code: int, meaning: str, hint: str) -> None:
        self.status = status
        self.exit_code = exit_code
        self.meaning = meaning
        self.hint = hint


class Refused(Exception):
    """A refusal with the sentence for this very case; ``hint`` overrides the general next step."""

    def __init__(self, refusal: Refusal, sentence: str, hint: str = "") -> None:
        self.refusal = refusal
        self.sentence = sentence
        self.hint = hint or refusal.hint
        super().__init__(sentence)

    @property
    def leaves_free(self) -> bool:
        """Whether it says of a name that anybody may register it."""
        return self.refusal in (Refusal.NOT_REGISTERED, Refusal.EXPIRED)

    def as_json(self) -> dict[str, str]:
        """The body of an API error."""
        return {
            "error": self.sentence,
            "code": self.refusal.name.lower(),
            "hint": self.hint,
        }


class NoNamespace(Refused):
    """A name is not registered, and cannot be: its namespace is not open."""

    @property
    def leaves_free(self) -> bool:
        """It does not."""
        return False


# Exit codes of blockstore-cli that no refusal of the server has.
OK = 0
FAILED = 1
USAGE = 2
NOT_RUNNING = 3
NO_ANSWER = 15
NOT_PROVEN = 16
NOT_AGREED = 17
NOT_DONE = 18
SUPERSEDED = 24
PERHAPS_OVER = 25
LEFT = 130


def exit_code_rows() -> list[tuple[int, str]]:
    """The exit codes of ``blockstore-cli`` and what each means, in order."""
    rows = [
        (OK, "done"),
        (FAILED, "the daemon refused for another reason, or answered nonsense"),
        (USAGE, "the command line is wrong"),
        (NOT_RUNNING, "blockstored does not run at that address"),
        (NO_ANSWER, "blockstored did not answer in time"),
        (NOT_PROVEN, "a proof, or the data under it, is not what it should be"),
        (NOT_AGREED, "the plan was not agreed to, and nothing was paid"),
        (NOT_DONE, "what was begun failed or was given up, or needs consent to go on"),
        (SUPERSEDED, "what was proven is over: the trusted daemon knows of a later operation"),
        (PERHAPS_OVER, "it is proven of a past block, and nothing shows that it still holds"),
        (LEFT, "left by Ctrl-C; blockstored goes on by itself"),
    ]
    rows += [(r.exit_code, r.meaning) for r in Refusal if r.exit_code not in (FAILED, USAGE)]
    return sorted(rows)
