"""Why a wish cannot be had now, in a sentence that says what to do next.

What must stay true: every refusal here comes before anything is signed, so nothing was paid; the
set of reasons is closed, and their codes are for programs and do not change.
"""

from dataclasses import dataclass
from enum import Enum

from indexer.bitcoin.transactions import script_address
from indexer.networks import MAX_NAMES_PER_SENDER
from indexer.protocol.flaws import Flaw
from indexer.protocol.records import NameRecord, NameStatus, Phase, status_at
from indexer.protocol.view import BlockView
from indexer.registrar.planning import wishes
from indexer.registrar.planning.dates import Tip, When, when
from indexer.registrar.planning.steps import Parties, StepKind
from indexer.registrar.planning.wishes import Wish


class Reason(Enum):
    """Why there is no plan; the value is the code for programs."""

    NAME_TAKEN = "name-taken"
    NAME_IN_GRACE = "name-in-grace"
    NAME_REVOKED = "name-revoked"
    NAME_NOT_REGISTERED = "name-not-registered"
    NAME_EXPIRED = "name-expired"
    NOT_THE_OWNER = "not-the-owner"
    SENT_TO_ITSELF = "sent-to-itself"
    BEING_REGISTERED = "being-registered"
    ALREADY_PREORDERED = "already-preordered"
    PREORDER_UNUSABLE = "preorder-unusable"
    PREORDER_MISSING = "preorder-missing"
    OWNER_FULL = "owner-full"
    SENDER_FULL = "sender-full"
    NAMESPACE_NOT_OPEN = "namespace-not-open"
    NAMESPACE_NOT_REVEALED = "namespace-not-revealed"
    NAMESPACE_EXISTS = "namespace-exists"
    NOT_THE_REVEALER = "not-the-revealer"
    NOT_AN_IMPORTER = "not-an-importer"
    NOT_AN_ANNOUNCER = "not-an-announcer"
    PAYEE_CHANGES_SOON = "payee-changes-soon"
    OTHER_LEDGER = "other-ledger"
    NOT_AT_THIS_HEIGHT = "not-at-this-height"
    WRONG_SCRIPT = "wrong-script"
    INDEX_BEHIND = "index-behind"
    PRICE_TOO_HIGH = "price-too-high"
    NOT_ENOUGH_MONEY = "not-enough-money"
    TOO_MANY_COINS = "too-many-coins"
    NOT_CARRIED = "not-carried"


class PlanRefused(Exception):
    """There is no plan for a wish; ``str()`` is the sentence, and nothing was paid."""

    def __init__(self, reason: Reason, sentence: str, hint: str) -> None:
        super().__init__(sentence)
        self.reason = reason
        self.hint = hint
        """What to do next."""


class CannotOrder(Exception):
    """It is not begun or not done; ``str()`` says why, ``hint`` what to do next."""

    def __init__(self, sentence: str, hint: str) -> None:
        super().__init__(sentence)
        self.hint = hint


class NoSuchJob(CannotOrder):
    """Nothing of this id was begun here."""


_REASONS: dict[Flaw, Reason] = {
    Flaw.NO_NAME_MATCHES: Reason.NOT_THE_OWNER,
    Flaw.COLLISION: Reason.BEING_REGISTERED,
    Flaw.PREORDER_EXISTS: Reason.ALREADY_PREORDERED,
    Flaw.NO_PREORDER: Reason.PREORDER_MISSING,
    Flaw.PREORDER_EXPIRED: Reason.PREORDER_UNUSABLE,
    Flaw.PREORDER_BEFORE_READY: Reason.PREORDER_UNUSABLE,
    Flaw.PREORDER_SENDER: Reason.PREORDER_UNUSABLE,
    Flaw.FEE_TOO_LOW: Reason.PREORDER_UNUSABLE,
    Flaw.FEE_WENT_ELSEWHERE: Reason.PREORDER_UNUSABLE,
    Flaw.QUOTA: Reason.OWNER_FULL,
    Flaw.NAMESPACE_NOT_READY: Reason.NAMESPACE_NOT_OPEN,
    Flaw.IMPORTER_UNKNOWN: Reason.NOT_AN_IMPORTER,
    Flaw.CONSENSUS_HASH: Reason.INDEX_BEHIND,
    Flaw.P2SH_OWNER: Reason.NOT_AT_THIS_HEIGHT,
    Flaw.VALUE_HASH_TOO_EARLY: Reason.NOT_AT_THIS_HEIGHT,
    Flaw.OWNER_MAY_NOT_CHANGE: Reason.NOT_AT_THIS_HEIGHT,
    Flaw.BAD_VERSION: Reason.NOT_AT_THIS_HEIGHT,
    Flaw.PAYLOAD_LENGTH: Reason.NOT_AT_THIS_HEIGHT,
}
"""What a flaw means before anything is sent, where that is not the reason of its own name. Any
other is about a script that cannot take part."""


def refusal(
    flaw: Flaw, kind: StepKind, wish: Wish, parties: Parties, view: BlockView, tip: Tip
) -> PlanRefused:
    """``flaw`` of step ``kind`` as a person should hear it, with heights, dates and addresses."""
    return _Telling(flaw, kind, wish, parties, view, tip).refusal()


@dataclass
class _Telling:
    """Everything that a sentence about one flaw may mention."""

    flaw: Flaw
    kind: StepKind
    wish: Wish
    parties: Parties
    view: BlockView
    tip: Tip

    def __post_init__(self) -> None:
        self.subject = self.wish.subject
        named = Reason.__members__.get(self.flaw.name, Reason.WRONG_SCRIPT)
        self.reason = _REASONS.get(self.flaw, named)

    def refusal(self) -> PlanRefused:
        sentence, hint = self._words()  # which may make the reason more exact
        return PlanRefused(self.reason, sentence, hint)

    def _words(self) -> tuple[str, str]:
        match self.reason:
            case Reason.NAME_TAKEN | Reason.NAME_REVOKED | Reason.NAME_IN_GRACE:
                return self._held()
            case Reason.NAME_NOT_REGISTERED | Reason.NOT_THE_OWNER:
                return self._not_theirs()
            case Reason.OWNER_FULL:
                return self._full()
            case Reason.PREORDER_UNUSABLE | Reason.ALREADY_PREORDERED | Reason.PREORDER_MISSING:
                return self._preordered()
            case Reason.BEING_REGISTERED:
                return (
                    f"somebody else's transaction that claims {self.subject} waits to be mined",
                    "wait for the next blocks: either the name is theirs then, or it is free",
                )
            case Reason.INDEX_BEHIND:
                return (
                    "the index knows no block recent enough to be named in a transaction; "
                    f"it would have to be block {self.view.height - 24} or a later one",
                    "wait until the index has caught up with the node, and try again",
                )
            case Reason.OTHER_LEDGER:
                return (
                    f"what {self.subject} asks for is paid in another ledger, which this index "
                    "does not follow",
                    "it cannot be had with bitcoin",
                )
        return self._other()

    def _held(self) -> tuple[str, str]:
        """The name is somebody's; until when, and what can be done about it."""
        found = self._status()
        if found is None:
            return f"{self.subject}: {self.flaw.value}", "choose another name"
        record, status = found
        owner = script_address(record.sender, self.view.network)
        again = "it never lapses"
        if status.gone_at is not None:
            again = f"it can be registered from {self._when(status.gone_at + 1)} on"
        if self.reason is Reason.NAME_REVOKED or status.phase is Phase.REVOKED:
            self.reason = Reason.NAME_REVOKED
            never = status.gone_at is None
            hint = "choose another name" if never else "wait, or choose another name"
            return f"{self.subject} is revoked; {again}", hint
        if self.flaw is Flaw.NAME_IN_GRACE:
            return (
                f"{self.subject} is in its grace period and can only be renewed; unless it is, "
                f"{again}",
                f"renew {self.subject} first",
            )
        if status.phase is Phase.GRACE:
            self.reason = Reason.NAME_IN_GRACE
            return (
                f"{self.subject} has expired, but {owner} alone can renew it; if not, {again}",
                "wait, or choose another name",
            )
        return (
            f"{self.subject} belongs to {owner}; unless it is renewed, {again}",
            "choose another name, or ask its owner to transfer it",
        )

    def _not_theirs(self) -> tuple[str, str]:
        found = self._status()
        if found is None:
            self.reason = Reason.NAME_NOT_REGISTERED
            return f"{self.subject} is not registered", "look at the spelling, or register it"
        record, status = found
        if status.phase is Phase.REVOKED:
            return self._held()
        if status.phase is Phase.EXPIRED:
            self.reason = Reason.NAME_EXPIRED
            lapsed = f" at {self._when(status.gone_at)}" if status.gone_at is not None else ""
            return f"{self.subject} lapsed{lapsed}", "register it again, if nobody else has"
        owner = script_address(record.sender, self.view.network)
        sender = script_address(self.parties.sender, self.view.network)
        if record.sender == self.parties.sender:
            return f"{self.subject}: {self.flaw.value}", "wait for the next block, and try again"
        self.reason = Reason.NOT_THE_OWNER
        return (
            f"{self.subject} belongs to {owner}, and {sender} would send this",
            f"use the wallet or the key of {owner}",
        )

    def _full(self) -> tuple[str, str]:
        """An address holds as many names as it may."""
        script = self.parties.sender
        match self.kind, self.wish:
            case StepKind.REGISTER, _:
                script = self.parties.owner or script
            case _, wishes.TransferName(recipient=recipient):
                script = recipient
        address = script_address(script, self.view.network)
        many = f"{address} owns {MAX_NAMES_PER_SENDER} names"
        match self.kind:
            case StepKind.RENEW:
                return (
                    f"{many}, and an address with that many can renew none of them",
                    "transfer one of its names to another address first",
                )
            case StepKind.UPDATE:
                return (
                    f"{address} owns more than {MAX_NAMES_PER_SENDER} names, and an address with "
                    "that many can update none of them",
                    "transfer some of its names to another address first",
                )
            case StepKind.PREORDER:
                self.reason = Reason.SENDER_FULL
                return f"{many}, and cannot pay for another", "pay from another address"
        return f"{many} and can own no more", "choose another address"

    def _preordered(self) -> tuple[str, str]:
        paid = "it was paid for and cannot be used any more: " + self.flaw.value
        match self.reason, self.kind:
            case Reason.ALREADY_PREORDERED, _:
                return (
                    f"{self.subject} was preordered by the same addresses, and that preorder "
                    "stands",
                    "register with it, or choose another address for the owner",
                )
            case Reason.PREORDER_MISSING, StepKind.NAMESPACE_REVEAL:
                return (
                    f"{script_address(self.parties.sender, self.view.network)} has no preorder of "
                    f"the namespace {self.subject} for this revealer",
                    "reveal from the address that sent the preorder, with the same revealer",
                )
            case Reason.PREORDER_MISSING, _:
                return f"{self.subject}: {self.flaw.value}", "preorder it first"
            case _, StepKind.NAMESPACE_REVEAL:
                return f"the preorder of {self.subject}: {paid}", "preorder the namespace again"
        return (
            f"the preorder of {self.subject}: {paid}",
            "choose another address for the owner, which takes a new preorder",
        )

    def _other(self) -> tuple[str, str]:
        namespace_id = self.subject.rpartition(".")[2]
        match self.reason:
            case Reason.NAMESPACE_NOT_OPEN:
                namespace = self.view.namespace(namespace_id)
                if namespace is None:
                    return (
                        f"there is no namespace {namespace_id}",
                        "look at the spelling of what follows the dot",
                    )
                return (
                    f"the namespace {namespace_id} is not open yet",
                    "wait until its creator opens it",
                )
            case Reason.NAMESPACE_NOT_REVEALED:
                return (
                    f"the namespace {namespace_id} is not revealed, or is open or lapsed already",
                    "names are imported, and namespaces opened, only between reveal and opening",
                )
            case Reason.NAMESPACE_EXISTS:
                return f"the namespace {namespace_id} exists already", "choose another one"
            case Reason.NOT_THE_REVEALER | Reason.NOT_AN_IMPORTER:
                hint = "use the key that the reveal named as the revealer's"
            case Reason.NOT_AN_ANNOUNCER:
                hint = f"announce as the owner of {' or '.join(self.view.network.announcers)}"
            case Reason.SENT_TO_ITSELF:
                hint = "name another address"
            case Reason.NOT_AT_THIS_HEIGHT:
                hint = "leave out what is not allowed there; with data, update after registering"
            case _:
                hint = "use p2pkh (legacy) or p2sh addresses"
        return f"{self.subject}: {self.flaw.value}", hint

    def _status(self) -> tuple[NameRecord, NameStatus] | None:
        record = self.view.name(self.subject)
        if record is None:
            return None
        namespace = self.view.namespace_of(record)
        return record, status_at(record, namespace, self.view.network, self.view.last)

    def _when(self, height: int) -> When:
        return when(height, self.tip, self.view.network)
