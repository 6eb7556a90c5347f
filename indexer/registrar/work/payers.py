"""Who sends a wish and who pays for it: scripts of a signer, as the table and its coins have it.

What must stay true: nobody's name but the signer's is sent for; what a script pays that owns a name
is never chosen; planning alone uses up one fresh address, and no more.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Protocol

from indexer.bitcoin.transactions import is_p2pkh
from indexer.protocol.flaws import Refused
from indexer.protocol.records import Phase
from indexer.protocol.view import BlockView
from indexer.registrar.planning import wishes
from indexer.registrar.planning.dates import Tip
from indexer.registrar.planning.quote import namespace_preorder_of, preorder_of
from indexer.registrar.planning.refusals import CannotOrder, refusal
from indexer.registrar.planning.steps import Parties, next_view, sender_of, steps_of
from indexer.registrar.planning.wishes import Wish
from indexer.registrar.work.runner import Runner
from indexer.table.snapshot import Snapshot
from indexer.wallet.coins import Coin
from indexer.wallet.signers import NoLegacyAddresses, Signer

MAX_HELD = 1_000
"""Scripts of one signer that are looked at."""


class Purse(Signer, Protocol):
    """What is asked of a signer beyond signing: what it has."""

    def held(self) -> Sequence[bytes]:
        """The legacy scripts of its own that are known to it, those with coins among them."""
        ...

    def legacy_coins(self) -> Sequence[Coin]:
        """What ``coins`` gives of each of them, asked for at once."""
        ...

    def spare(self, sender: bytes) -> int:
        """Satoshis that ``pay`` may move to a script from elsewhere, of coins of any kind."""
        ...


class Payers:
    """Finds who takes part. Blocks on nodes and signers."""

    def __init__(self, runner: Runner, signers: Mapping[str, Purse]) -> None:
        self.runner = runner
        self.signers = signers
        self._unused: dict[str, bytes] = {}
        """By signer, the address that was made for a plan and has not sent anything: the next plan
        takes it too."""

    def purse(self, name: str) -> Purse:
        """Whoever signs under this name. Raises CannotOrder."""
        purse = self.signers.get(name)
        if purse is None:
            raise CannotOrder(
                "nobody signs here; nothing was paid",
                "set `signer`, or sign elsewhere: --psbt FILE or --key-file FILE",
            )
        return purse

    def parties(
        self,
        wish: Wish,
        view: BlockView,
        signer: str,
        payer: bytes | None,
        taken: Collection[tuple[bytes, int]],
        tip: Tip,
    ) -> Parties:
        """Who takes part: the sender is who must be by the table, or else ``payer``, the script
        that holds most of what is not ``taken``, or a fresh one. A preorder that an earlier job of
        ours left is used, not paid again. Raises PlanRefused, CannotOrder, SignerError."""
        purse = self.purse(signer)
        richest = self._richest(purse, taken)
        sender = self._by_table(wish, view, purse, payer, tip)
        if sender is None and payer is not None:
            if not purse.owns(payer):
                raise CannotOrder(
                    "whoever signs here has no key for that payer; nothing was paid",
                    "name an address of the wallet or the key file, or leave it away",
                )
            sender = payer
        sender = sender or richest
        if sender is None:
            if signer not in self._unused:
                self._unused[signer] = purse.fresh_script("blockstore payments")
            sender = self._unused[signer]
        funder = None if richest == sender else richest
        if payer is not None and payer != sender and purse.owns(payer):
            funder = payer
        owner: bytes | None = getattr(wish, "owner", None)
        if isinstance(wish, wishes.RegisterName) and owner is None:
            for job in reversed(self.runner.books.journal.jobs()):
                former = job.parties
                if job.subject != wish.name or job.signer != signer or former.owner is None:
                    continue
                if preorder_of(wish.name, view, [(former.sender, former.owner)]) is not None:
                    return Parties(former.sender, former.owner, funder)
        return Parties(sender, owner, funder)

    def _by_table(
        self, wish: Wish, view: BlockView, purse: Purse, payer: bytes | None, tip: Tip
    ) -> bytes | None:
        """Who must send ``wish`` by the table; None: whoever pays."""
        try:
            found = sender_of(wish, view)
        except Refused as refused:
            kind = next(k for k in steps_of(wish) if k.carries_operation)
            nobody = Parties(payer or b"")
            raise refusal(refused.flaw, kind, wish, nobody, view, tip) from None
        if found is not None and not purse.owns(found):
            raise CannotOrder(
                f"{wish.subject} is not of the wallet that signs here; nothing was paid",
                "use the wallet or the keys of its owner: settings `signer` and `key_file`, or"
                " --key-file, or --psbt",
            )
        if isinstance(wish, wishes.RevealNamespace) and found is None:
            payers = (one for one in (payer, *self._preorderers(wish), *purse.held()) if one)
            pairs = ((script, wish.revealer) for script in payers)
            preorder = namespace_preorder_of(wish.subject, view, pairs)
            return None if preorder is None else preorder.sender
        return found

    def _preorderers(self, wish: wishes.RevealNamespace) -> Iterable[bytes]:
        for job in reversed(self.runner.books.journal.jobs()):
            same = isinstance(job.wish, wishes.PreorderNamespace)
            if same and job.subject == wish.subject:
                yield job.parties.sender

    def _richest(self, purse: Purse, taken: Collection[tuple[bytes, int]]) -> bytes | None:
        """The script of the signer that holds most of what is not ``taken``, and no names; None
        where there is none."""
        seen = self.runner.snapshot()
        worth: dict[bytes, int] = {}
        for coin in purse.legacy_coins():
            if is_p2pkh(coin.script) and (coin.txid, coin.index) not in taken:
                worth[coin.script] = worth.get(coin.script, 0) + coin.value
        for script in sorted(worth, key=lambda script: -worth[script])[:MAX_HELD]:
            if not seen.owned_by(script, limit=1, live_only=False).entries:
                return script
        return None

    def fresh_owner(self, name: str, signer: str, sender: bytes) -> bytes:
        """A script for a name of its own, so that nobody sees which names are one person's."""
        purse = self.purse(signer)
        try:
            for _ in range(2):
                owner = purse.fresh_script(f"blockstore {name}")
                if owner != sender:
                    return owner
        except NoLegacyAddresses:
            pass
        return sender

    def uses(self, signer: str, sender: bytes) -> None:
        """A job begins in which ``sender`` sends: the next one has a fresh address of its own."""
        if self._unused.get(signer) == sender:
            del self._unused[signer]

    # --- what is owned

    def sender_on_chain(self, wish: Wish) -> bytes | None:
        """Who must send ``wish`` as the chain has it; None: whoever pays, or there is nobody."""
        seen = self.runner.snapshot()
        try:
            return sender_of(wish, next_view(seen, self.runner.network, seen.height, seen.height))
        except Refused:
            return None

    def owned(self, signer: str) -> list[str]:
        """The live names of a signer, in order. Raises CannotOrder, SignerError."""
        seen = self.runner.snapshot()
        scripts = dict.fromkeys(self.purse(signer).held())
        for job in self.runner.books.journal.jobs():
            if job.signer == signer:
                scripts |= dict.fromkeys(s for s in (job.parties.owner, job.parties.sender) if s)
        return sorted(name for script in scripts for name in _names_of(script, seen))


def coins_of(purse: Purse, parties: Parties) -> list[Coin]:
    """The coins of who sends and of who pays. Raises SignerError."""
    scripts = dict.fromkeys(s for s in (parties.sender, parties.funder) if s is not None)
    return [coin for script in scripts for coin in purse.coins(script)]


def _names_of(script: bytes, seen: Snapshot) -> Iterable[str]:
    after = ""
    while True:
        page = seen.owned_by(script, after)
        for name in page.entries:
            standing = seen.name_status(name)
            if standing is not None and standing[1].phase in (Phase.LIVE, Phase.GRACE):
                yield name
        after = page.next
        if not after:
            return
