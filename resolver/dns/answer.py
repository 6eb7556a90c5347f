"""What is said to a question once everything about it is known: sections, rcode, extended errors.

The states of a name and what each answers are functions here, one a state. What must stay true:
- NXDOMAIN is said only where the chain is known and the name, or the label inside its readable
  zone file, is not there; what merely could not be fetched or read is never NXDOMAIN;
- every negative answer carries the SOA of the zone it speaks for (RFC 2308 2);
- the rcode speaks for the last name of a chain of aliases, the authoritative bit for the first
  (RFC 6604, RFC 1035 4.1.1).
"""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from resolver.dns.codes import CH, ErrorCode, Rcode, Rtype
from resolver.dns.lookup import (
    AliasTooLong,
    Found,
    NoSuchNode,
    NoSuchType,
    Outcome,
    RecordSet,
    Referral,
    TtlLimits,
    look_up,
)
from resolver.dns.zones import APEX_TTL, SOA_MINIMUM, Labels, Zone, name_text, name_wire
from zonefiles.text.recordsets import Zonefile

DATA_TTL = 300
"""TTL of data shown as TXT, in seconds: it has none of its own, and a block may change it."""

MAX_STRING = 255  # RFC 1035 3.3: one character-string


@dataclass(frozen=True, slots=True)
class ExtendedError:
    """An extended DNS error (RFC 8914): a code and a text for people."""

    code: int
    text: str


@dataclass(frozen=True, slots=True)
class Basis:
    """What an answer was made of, and so what ends it."""

    of: frozenset[str | bytes] = frozenset()
    """The names on the chain that were asked, and the hashes of data that was not to be had."""
    until: int | None = None
    """The first height at which it is another answer though nothing was written: a name comes into
    its grace period or expires. None: no such height."""
    at_height: bool = False
    """It speaks of the height itself (SOA serial, texts), and so ends with the next block."""
    seconds: int | None = None
    """How long it is good for where its TTLs do not tell: what ordinary DNS said (RFC 2308)."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply before it is a message.

    ``glue`` belongs to a referral and may not be left out silently; ``additional`` may. Without a
    ``basis`` it is for the one who asked and is not kept.
    """

    rcode: int
    authoritative: bool = False
    answer: tuple[RecordSet, ...] = ()
    authority: tuple[RecordSet, ...] = ()
    glue: tuple[RecordSet, ...] = ()
    additional: tuple[RecordSet, ...] = ()
    errors: tuple[ExtendedError, ...] = ()
    basis: Basis | None = None
    onward: Labels | None = None
    """The name, in lower case, that ordinary DNS may be asked for, for those who may recurse; its
    answer goes behind the records here and in the place of all else."""
    forwarded: bool = False
    """Ordinary DNS had a part in it."""
    authenticated: bool = False
    """An upstream that is trusted has validated all of it (AD, RFC 4035 3.2.3)."""

    def with_errors(self, errors: tuple[ExtendedError, ...]) -> "Answer":
        """The same answer with further remarks, each said once."""
        return replace(self, errors=tuple(dict.fromkeys(self.errors + errors)))

    def made_of(self, names: frozenset[str | bytes], until: int | None) -> "Answer":
        """The same answer with its basis. Whatever bears the SOA or a text bears the height, or
        may: it is cheaper to make it again after a block than to know."""
        sections = (*self.answer, *self.authority)
        at_height = bool(self.errors) or any(part.rtype == Rtype.SOA for part in sections)
        return Answer(  # ``replace`` takes several times as long, and every answer comes by here
            self.rcode,
            self.authoritative,
            self.answer,
            self.authority,
            self.glue,
            self.additional,
            self.errors,
            Basis(names, until, at_height),
            self.onward,
            self.forwarded,
            self.authenticated,
        )


@dataclass(frozen=True, slots=True)
class NameData:
    """The verified data of a name and what it was read as: a zone file, or the reason why not."""

    data: bytes
    zonefile: Zonefile | None
    flaw: str = ""
    """"line L: why" where ``zonefile`` is None."""


@dataclass(frozen=True, slots=True)
class ServerIdentity:
    """What the server says of itself in class CH; an empty text is hidden (REFUSED)."""

    version: str = ""
    host: str = ""


def answer_from_data(
    held: NameData, left: Labels, qtype: int, anchor: Labels, ttls: TtlLimits
) -> Outcome:
    """What the data of a name says to a question.

    TXT at the name is always answered: by the zone file's own records (or its CNAME), and where
    it has none, or where the data is no zone file, by the data itself.
    """
    outcome: Outcome
    if held.zonefile is None:
        # Where the data cannot be read nothing is known of what lies below the name.
        outcome = NoSuchType()
    else:
        outcome = look_up(held.zonefile, left, qtype, anchor, ttls)
    if isinstance(outcome, NoSuchType) and not left and qtype in (Rtype.TXT, Rtype.ANY):
        text = RecordSet(
            anchor, int(Rtype.TXT), ttls.clamp(DATA_TTL), (character_strings(held.data),)
        )
        return Found(text)
    return outcome


def character_strings(data: bytes) -> bytes:
    """TXT rdata that holds ``data`` verbatim in strings of at most 255 bytes; no data, one empty
    string (RFC 1035 3.3.14)."""
    if not data:
        return b"\0"
    pieces = (data[at : at + MAX_STRING] for at in range(0, len(data), MAX_STRING))
    return b"".join(bytes((len(piece),)) + piece for piece in pieces)


def final_answer(
    outcome: Found | NoSuchType | NoSuchNode | AliasTooLong | Referral,
    zone: Zone,
    height: int,
    chain: tuple[RecordSet, ...],
    errors: tuple[ExtendedError, ...] = (),
) -> Answer:
    """The answer when no alias is left to follow; ``chain`` are the aliases already followed."""
    match outcome:
        case Found(records):
            return Answer(Rcode.NOERROR, True, (*chain, records), errors=errors)
        case Referral(nameservers, glue, siblings):
            return Answer(Rcode.NOERROR, bool(chain), chain, (nameservers,), glue, siblings, errors)
        case AliasTooLong(dname):
            return Answer(Rcode.YXDOMAIN, True, (*chain, dname), errors=errors)
        case NoSuchType():
            return negative(Rcode.NOERROR, zone, height, chain, errors)
        case NoSuchNode():
            return negative(Rcode.NXDOMAIN, zone, height, chain, errors)


def negative(
    rcode: Rcode,
    zone: Zone,
    height: int,
    chain: tuple[RecordSet, ...] = (),
    errors: tuple[ExtendedError, ...] = (),
) -> Answer:
    """NXDOMAIN, or NOERROR without the record that was asked for."""
    soa = RecordSet(zone.suffix, int(Rtype.SOA), SOA_MINIMUM, (zone.soa_rdata(height),))
    return Answer(rcode, True, chain, (soa,), errors=errors)


def apex_answer(zone: Zone, qtype: int, height: int, chain: tuple[RecordSet, ...] = ()) -> Answer:
    """The suffix itself: it has an SOA and NS records, and nothing else."""
    if qtype in (Rtype.SOA, Rtype.ANY):
        records = RecordSet(zone.suffix, int(Rtype.SOA), SOA_MINIMUM, (zone.soa_rdata(height),))
    elif qtype == Rtype.NS:
        names = tuple(name_wire(server) for server in zone.nameservers)
        records = RecordSet(zone.suffix, int(Rtype.NS), APEX_TTL, names)
    else:
        return negative(Rcode.NOERROR, zone, height, chain)
    return Answer(Rcode.NOERROR, True, (*chain, records))


def unfinished_chain(
    chain: tuple[RecordSet, ...], target: Labels, *, circle: bool = False, whole: bool = False
) -> Answer:
    """Aliases that lead nowhere within the steps allowed: what there is, and why no more. Who
    relies on us for the ``whole`` answer hears SERVFAIL, for half a one would pass for all."""
    why = "comes back to" if circle else "is followed no further than"
    error = ExtendedError(ErrorCode.OTHER, f"the chain of aliases {why} {name_text(target)}")
    if whole:
        return Answer(Rcode.SERVFAIL, errors=(error,))
    return Answer(Rcode.NOERROR, True, chain, errors=(error,))


def chaos_answer(labels: Labels, qtype: int, identity: ServerIdentity) -> Answer:
    """Class CH: the server speaks of itself (RFC 4892), or says nothing of it."""
    texts: dict[Labels, str] = {
        (b"version", b"bind"): identity.version,
        (b"version", b"server"): identity.version,
        (b"hostname", b"bind"): identity.host,
        (b"id", b"server"): identity.host,
    }
    text = texts.get(tuple(label.lower() for label in labels), "")
    if not text:
        return Answer(Rcode.REFUSED)
    if qtype not in (Rtype.TXT, Rtype.ANY):
        return Answer(Rcode.NOERROR, True)
    rdata = character_strings(text.encode()[:MAX_STRING])
    return Answer(Rcode.NOERROR, True, (RecordSet(labels, int(Rtype.TXT), 0, (rdata,), CH),))


# The states of a name that are answered without its data, or despite it.


def not_served() -> Answer:
    """No served zone and nobody to ask."""
    return Answer(
        Rcode.REFUSED,
        errors=(ExtendedError(ErrorCode.NOT_AUTHORITATIVE, "not in a zone served here"),),
    )


def failure(code: ErrorCode, text: str) -> Answer:
    """SERVFAIL and why."""
    return Answer(Rcode.SERVFAIL, errors=(ExtendedError(code, text),))


def not_ready(height: int, target: int) -> Answer:
    return failure(ErrorCode.NOT_READY, f"index at block {height} of {target}")


def too_stale(height: int, seconds: float) -> Answer:
    return failure(ErrorCode.NOT_READY, f"last block {height}, {seconds:.0f} seconds ago")


def stale(height: int, seconds: float, stopped: bool = False) -> ExtendedError:
    why = "; the index has stopped" if stopped else ""
    text = f"last block {height}, {seconds:.0f} seconds ago{why}"
    return ExtendedError(ErrorCode.STALE_ANSWER, text)


def data_unavailable(digest: bytes, chain_name: str, asked: int) -> Answer:
    sources = "1 source" if asked == 1 else f"{asked} sources"
    return failure(
        ErrorCode.NO_REACHABLE_AUTHORITY,
        f"data {digest.hex()} of {chain_name} not available from {sources}",
    )


def data_mismatch() -> Answer:
    return failure(ErrorCode.OTHER, "no source gave data that matches the hash on the chain")


def damaged() -> Answer:
    return failure(ErrorCode.NOT_READY, "the index is damaged; see the log")


def overloaded() -> Answer:
    return failure(ErrorCode.OTHER, "too many questions wait for data already; ask again")


def not_registered(height: int) -> ExtendedError:
    return ExtendedError(ErrorCode.OTHER, f"not registered at block {height}")


def expired(block: int) -> ExtendedError:
    return ExtendedError(ErrorCode.OTHER, f"expired at block {block}")


def revoked(block: int) -> ExtendedError:
    return ExtendedError(ErrorCode.OTHER, f"revoked at block {block}")


def expires_soon(block: int, height: int, block_time: int, spacing: float) -> ExtendedError:
    """``block_time`` (unix seconds) is when ``height`` was mined; blocks come every ``spacing``
    seconds on the whole, so the date is a guess and says so."""
    date = about_date(block, height, block_time, spacing)
    about = f" (about {date})" if date else ""
    return ExtendedError(ErrorCode.OTHER, f"expires at block {block}{about}")


def about_date(block: int, height: int, block_time: int, spacing: float) -> str:
    """The day on which ``block`` may come, as YYYY-MM-DD; empty where no calendar has it."""
    try:
        moment = datetime.fromtimestamp(block_time, UTC) + timedelta(
            seconds=(block - height) * spacing
        )
    except (OverflowError, ValueError, OSError):
        return ""
    return f"{moment:%Y-%m-%d}"


def no_data_yet(chain_name: str) -> ExtendedError:
    return ExtendedError(ErrorCode.OTHER, f"{chain_name} has no data yet")


def not_a_zonefile(chain_name: str, flaw: str) -> ExtendedError:
    return ExtendedError(ErrorCode.OTHER, f"the data of {chain_name} is not a zone file: {flaw}")
