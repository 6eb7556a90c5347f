"""Names that are not ours: asked of the configured resolvers, over UDP and TCP, or over TLS.

What must stay true:
- an upstream that is to be asked over TLS is asked in no other way;
- one question is asked once, however many wait for it; the number under way is bounded, and so is
  how many are asked in a second, for whoever floods us with other names takes the time of ours;
- an upstream that fails costs one wait and then stands at the end; when none answers, an answer
  past its time is better than none (RFC 8767);
- only addresses in ``allow`` are served, and the names of ``forward_names`` never leave;
- nothing here raises into the one who asked: the outcome is an ``Answer``.
"""

import asyncio
import ipaddress
import logging
import secrets
import ssl
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from functools import lru_cache, partial
from pathlib import Path

from resolver.dns.answer import Answer, ExtendedError
from resolver.dns.asker import Network, is_public, is_within
from resolver.dns.codes import AA, RA, ErrorCode, Rcode, Rtype
from resolver.dns.rates import allowance
from resolver.dns.upstream_reply import Reply
from resolver.dns.zones import name_text
from resolver.forwarding.cache import ForwardCache
from resolver.forwarding.health import Health
from resolver.forwarding.plain import LEAST_STREAM_WAIT, Plain
from resolver.forwarding.query import NO_EDNS, Question
from resolver.forwarding.scrub import as_answer
from resolver.forwarding.special_use import kept_answer
from resolver.forwarding.tls import CertificateRefused, NoReply, TlsUpstream, client_context
from resolver.forwarding.upstreams import Upstream

log = logging.getLogger("blockstore.resolver")

PATIENCE = 1.8
"""Seconds after which a stale answer is given though a refresh is under way (RFC 8767 5)."""
MAX_UNDER_WAY = 1_000
ROUNDS = 3
SERVER_WAIT = 1.0
"""Seconds for a server of a delegation, of which nothing is known."""
SPENT_FOR = 0.05
"""Seconds for which nothing new is begun once the share is used up."""
LOG_ONE_EVERY = 60.0

_ANSWERS = (Rcode.NOERROR, Rcode.NXDOMAIN, Rcode.YXDOMAIN)


class ForwardError(Exception):
    """Settings by which nobody can be asked; one line that says why."""


class Forwarder:
    """Asks ``upstreams`` in the order given. ``timeout`` is in seconds; ``tls`` is how those are
    spoken to that are asked over TLS; ``rate`` is how many questions a second may be asked of
    others in all (0: any number)."""

    def __init__(
        self,
        upstreams: Sequence[Upstream],
        *,
        allow: Sequence[Network] = (),
        trust_ad: bool = False,
        cache: ForwardCache | None = None,
        tls: ssl.SSLContext | None = None,
        timeout: float = 5.0,
        rate: float = 0.0,
        max_under_way: int = MAX_UNDER_WAY,
        patience: float = PATIENCE,
        delegation_port: int = 53,
        reachable: Callable[[str], bool] = is_public,
        clock: Callable[[], float] = time.monotonic,
        random_octets: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._upstreams = tuple(upstreams)
        self._over_tls = {
            number: TlsUpstream(upstream, tls or client_context(), random_octets=random_octets)
            for number, upstream in enumerate(upstreams)
            if upstream.tls
        }
        self._trust_ad = trust_ad
        self._cache = ForwardCache(16 * 2**20) if cache is None else cache
        self._timeout = timeout
        self._rate = rate
        self._share = allowance(rate, 1)
        self._spent_until = float("-inf")
        self._max_under_way = max_under_way
        self._patience = patience
        self._delegation_port = delegation_port
        self._reachable = reachable
        self._clock = clock
        self._health = Health(len(self._upstreams))
        self._under_way: dict[Question, asyncio.Task[Answer]] = {}
        self._last_logged: dict[str, float] = {}
        self.allows = lru_cache(maxsize=4_096)(partial(is_within, networks=tuple(allow)))
        """Whether the client at an address (text) is served."""
        self.outcomes: Counter[str] = Counter()
        self._plain = Plain(random_octets, self.outcomes)
        """"asked" (packets sent to upstreams), "over TCP", "over TLS", "strange" (packets that are
        no reply), "no reply", "certificate refused", "merged", "from memory", "stale", "kept here",
        "failed", "overloaded"."""

    def at_hand(self, question: Question) -> Answer | None:
        """The answer if nobody need be asked for it."""
        kept = kept_answer(question.qname, question.qtype)
        if kept is not None:
            self.outcomes["kept here"] += 1
            return kept
        now = self._clock()
        fresh = self._cache.get(question, now)
        if fresh is not None:
            self.outcomes["from memory"] += 1
            return fresh
        stale = self._cache.stale_at_once(question, now)
        if stale is not None:
            self.outcomes["stale"] += 1
        return stale

    async def answer(self, question: Question) -> Answer:
        """The answer, asked for if need be."""
        held = self.at_hand(question)
        if held is not None:
            return held
        task = self._under_way.get(question)
        if task is None:
            if len(self._under_way) >= self._max_under_way or not self._has_share():
                self.outcomes["overloaded"] += 1
                return _failure(ErrorCode.OTHER, "too many questions are being forwarded already")
            task = asyncio.ensure_future(self._resolve(question))
            self._under_way[question] = task
            task.add_done_callback(lambda _: self._under_way.pop(question, None))
        else:
            self.outcomes["merged"] += 1
        stale = self._cache.stale(question, self._clock())
        # Waiting does not cancel it: others wait too, and its answer is kept.
        await asyncio.wait({task}, timeout=None if stale is None else self._patience)
        if task.done() and not task.cancelled():
            return task.result()
        if stale is not None:
            self.outcomes["stale"] += 1
            return stale
        return _failure(ErrorCode.NETWORK_ERROR, "the server is being stopped")

    def is_spent(self) -> bool:
        """Whether the share of forwarding is used up for the moment, so that a question which it
        would need is not worth the work of finding that out."""
        return self._clock() < self._spent_until

    def _has_share(self) -> bool:
        now = self._clock()
        if not self._rate or self._share.take("", now):
            return True
        self._spent_until = now + SPENT_FOR
        return False

    async def close(self) -> None:
        """Give up what is under way, and end the connections."""
        tasks = list(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for upstream in self._over_tls.values():
            await upstream.close()

    @property
    def upstreams(self) -> int:
        return len(self._upstreams)

    def healthy(self) -> int:
        """How many upstreams answered when they were asked last."""
        return self._health.healthy()

    async def _resolve(self, question: Question) -> Answer:
        """Ask until somebody answers or the time is over; keep what was learned. Never raises."""
        try:
            asking = self._ask_servers if question.servers else self._ask_all
            reply = await asking(question)
        except Exception as error:
            log.error("Forwarding %s failed: %s.", name_text(question.qname), error)
            log.debug("The failure came from here.", exc_info=error)
            reply = None
        now = self._clock()
        refers = bool(question.servers)
        if reply is not None and reply.rcode in _ANSWERS and (refers or not _is_lame(reply)):
            answer, ttl = as_answer(reply, trust_ad=self._trust_ad and not refers, refers=refers)
            self._cache.put(question, answer, ttl, now)
            return self._cache.get(question, now) or answer
        self.outcomes["failed"] += 1
        self._cache.refresh_failed(question, now)
        stale = self._cache.stale(question, now)
        if stale is not None:
            self.outcomes["stale"] += 1
            return stale
        failure = (
            self._nobody_answers(question, now) if reply is None else _refused(reply, question)
        )
        self._cache.put_failure(question, failure, now)
        return failure

    async def _ask_all(self, question: Question) -> Reply | None:
        """The first answer of any upstream; else the last error one gave; else None."""
        deadline = self._clock() + self._timeout
        refusal: Reply | None = None
        refused: set[int] = set()
        for tries in range(ROUNDS):
            for number in self._health.order(self._clock()):
                left = deadline - self._clock()
                if number in refused or left <= 0:
                    continue
                began = self._clock()
                wait = min(self._health.wait(number, tries), left)
                try:
                    reply = await self._exchange(number, question, wait, left)
                except CertificateRefused as error:
                    self.outcomes["certificate refused"] += 1
                    self._health.failed(number, self._clock())
                    refused.add(number)  # it will be no other within seconds
                    self._warn(f"{error}.", self._clock())
                    continue
                except (OSError, TimeoutError, EOFError, NoReply):
                    self.outcomes["no reply"] += 1
                    self._health.failed(number, self._clock())
                    continue
                self._health.answered(number, self._clock() - began)
                if reply.rcode in _ANSWERS and not _is_lame(reply):
                    return reply
                # It is the name that failed, not the upstream: another may know better.
                refusal = reply
                refused.add(number)
        return refusal

    async def _ask_servers(self, question: Question) -> Reply | None:
        """What one of the servers of a delegation says, as an authority; else the last error one
        gave; else None. Nobody is asked who is not on the open Internet: anybody's zone file may
        name an address."""
        deadline = self._clock() + self._timeout
        refusal: Reply | None = None
        for address in filter(self._reachable, question.servers):
            left = deadline - self._clock()
            if left <= 0:
                break
            server = Upstream(address, self._delegation_port)
            ask = partial(self._plain.ask, server, question, ask_ad=False, wait=SERVER_WAIT)
            try:
                reply = await _with_or_without_edns(ask, left)
            except (OSError, TimeoutError, EOFError, NoReply):
                self.outcomes["no reply"] += 1
                continue
            refers = any(records.rtype == Rtype.NS for records in reply.authority)
            if reply.rcode not in _ANSWERS:
                refusal = reply
            elif reply.flags & AA or refers:
                return reply  # whoever is no authority for it knows nothing of it
        return refusal

    async def _exchange(self, number: int, question: Question, wait: float, left: float) -> Reply:
        if number in self._over_tls:
            self.outcomes["asked"] += 1
            self.outcomes["over TLS"] += 1
            ask = partial(self._over_tls[number].ask, question, wait=max(wait, LEAST_STREAM_WAIT))
        else:
            ask = partial(self._plain.ask, self._upstreams[number], question, wait=wait)
        return await _with_or_without_edns(partial(ask, ask_ad=self._trust_ad), left)

    def _nobody_answers(self, question: Question, now: float) -> Answer:
        who = f"no name server of {name_text(question.cut)}"
        if not question.servers:
            who = f"none of {len(self._upstreams)} upstream resolvers"
            self._warn(f"{who.capitalize()} answers.", now)
        return _failure(ErrorCode.NO_REACHABLE_AUTHORITY, f"{who} answers")

    def _warn(self, line: str, now: float) -> None:
        """Say it in the log, once a minute at most."""
        if now - self._last_logged.get(line, float("-inf")) >= LOG_ONE_EVERY:
            self._last_logged[line] = now
            log.warning("%s", line)


def open_forwarder(
    upstreams: Sequence[Upstream],
    *,
    authorities: Path | None,
    allow: Sequence[str],
    trust_ad: bool,
    cache_bytes: int,
    timeout: float,
    rate: float,
) -> Forwarder | None:
    """Whom to ask for other names, for the prefixes of ``allow``; None where there is nobody.

    ``authorities``: a file of those who vouch for ``upstreams`` over TLS. Raises ForwardError.
    """
    if not upstreams:
        return None
    try:
        tls = client_context(authorities)
    except OSError as error:
        raise ForwardError(
            f"forward_ca: {authorities} holds no certificates in PEM form that can be read"
            f" ({error.strerror or error})"
        ) from error
    plain = [upstream for upstream in upstreams if not upstream.tls]
    if plain and len(plain) < len(upstreams):
        log.warning("Where others fail, %s is asked in the clear.", plain[0].place)
    networks = [ipaddress.ip_network(prefix) for prefix in allow]
    if any(network.prefixlen == 0 for network in networks):
        log.warning("Other names are looked up for everybody: this is an open forwarder.")
    return Forwarder(
        upstreams,
        allow=networks,
        trust_ad=trust_ad,
        cache=ForwardCache(cache_bytes),
        tls=tls,
        timeout=timeout,
        rate=rate,
    )


async def _with_or_without_edns(ask: Callable[..., Awaitable[Reply]], left: float) -> Reply:
    """What the server says, within ``left`` seconds; one that does not know EDNS is asked without
    it (RFC 6891 7)."""
    async with asyncio.timeout(left):
        reply = await ask(edns=True)
        return reply if reply.rcode not in NO_EDNS else await ask(edns=False)


def _failure(code: ErrorCode, text: str) -> Answer:
    return Answer(Rcode.SERVFAIL, errors=(ExtendedError(code, text),), forwarded=True)


def _is_lame(reply: Reply) -> bool:
    """Whether a server that is no resolver says whom to ask instead."""
    said = {records.rtype for records in reply.authority}
    helps = reply.flags & (RA | AA) or reply.answer or reply.rcode != Rcode.NOERROR
    return not helps and Rtype.NS in said and Rtype.SOA not in said


def _refused(reply: Reply, question: Question) -> Answer:
    """What somebody said that is no answer; their own reasons are passed on."""
    if reply.errors:
        return Answer(Rcode.SERVFAIL, errors=reply.errors, forwarded=True)
    who = "the upstream resolver"
    if question.servers:
        who = f"a name server of {name_text(question.cut)}"
    elif _is_lame(reply):
        return _failure(ErrorCode.OTHER, f"{who} does not look names up for us")
    name = Rcode(reply.rcode).name if reply.rcode in set(Rcode) else f"rcode {reply.rcode}"
    return _failure(ErrorCode.OTHER, f"{who} answered {name}")
