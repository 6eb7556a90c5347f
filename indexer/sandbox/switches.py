"""The ways in which nodes of the field differ from the sandbox node as it comes, as switches.

What must stay true: every switch is off by default, may be turned while the node runs, and then
the node answers with the codes, HTTP statuses and words of the Bitcoin Core it stands for.
"""

from dataclasses import dataclass, field

DEFAULT_VERSION = 300000


@dataclass(slots=True)
class Switches:
    """What a node does, or does not do. A change holds from the next request on."""

    version: int = DEFAULT_VERSION
    """What ``getnetworkinfo`` calls the version; prevouts are shown from 230000 on
    with a block, from 250000 on with one transaction."""
    warming_up: str | None = None
    """Words such as "Loading block index…": every call fails with -28 and them."""
    busy: bool = False
    """The work queue is full: HTTP 503 and plain text, whatever is asked."""
    rpc_threads: int | None = None
    """How many requests are worked on at once (-rpcthreads); None: as many as come."""
    strict: bool = False
    """Replies of strict JSON-RPC 2.0, also to requests that do not ask for them."""
    initial_download: bool = False
    """``initialblockdownload`` is true, as long as Bitcoin Core has not seen a young tip."""
    headers_ahead: int = 0
    """Headers that it has beyond its last block, whose blocks have yet to come."""
    prune_height: int | None = None
    """The first block still held; those below were pruned. None: it never prunes."""
    rest: bool = False
    """The REST interface (bitcoind -rest); its spent outputs since version 300000."""
    allowed: frozenset[str] | None = None
    """The methods that rpcwhitelist names for our user, others get HTTP 403. None: no such list."""
    zmq_hashblock: str | None = None
    """The address on which blocks are announced over ZeroMQ; announcing is left to others."""
    long_polling: bool = True
    """Whether ``waitfornewblock`` is known."""
    wallet_loaded: bool = True
    """Whether any wallet is; without one, what asks it fails with -18."""
    wallet_passphrase: str | None = field(default=None, repr=False)
    """What the wallets are encrypted with; they are locked then. None: they are not."""
    legacy_addresses: bool = True
    """Whether a wallet makes p2pkh addresses, as those with no such descriptor do not."""
    segwit_wallet: bool = False
    """Whether a wallet makes bech32 (p2wpkh) addresses, where no other kind is asked for and for
    change, as Core's do."""
    fee_rate: int | None = None
    """What the node estimates, in satoshis per 1000 bytes; None: it has no estimate."""
    max_datacarrier: int | None = None
    """Bytes of OP_RETURN scripts that it passes on (-datacarriersize, 0: -datacarrier=0), and tells
    in ``getmempoolinfo``, as nodes since version 30 do; None: 83 bytes, and it does not tell."""
