"""The wallet methods of the sandbox node's JSON-RPC: wallets, addresses and coins. No sockets.

What must stay true: each public method is a method of the RPC with the names, defaults, error
codes and words of Bitcoin Core's; what needs a key fails while the wallet is locked.
"""

from collections.abc import Callable

from indexer.bitcoin.transactions import hash_hex, is_p2pkh
from indexer.bitcoin.witness import is_p2wpkh
from indexer.sandbox.chain import SandboxChain
from indexer.sandbox.coins import Coin, Outpoint
from indexer.sandbox.core_json import Json, address_of, amount, described
from indexer.sandbox.envelope import (
    RPC_NOT_FOUND,
    RPC_PARAMETER,
    RpcError,
    flag,
    integer,
    list_of,
    outpoint_of,
    satoshis_of,
    script_of,
    text_of,
)
from indexer.sandbox.switches import Switches
from indexer.sandbox.wallet import SandboxWallet, WalletCoin, Wallets

RPC_LABEL, RPC_KEYPOOL = -11, -12
RPC_UNLOCK_NEEDED, RPC_PASSPHRASE, RPC_ENCRYPTION_STATE = -13, -14, -15
RPC_NO_WALLET, RPC_WHICH_WALLET, RPC_WALLET_LOADED, RPC_WALLET_EXISTS = -18, -19, -35, -36

ADDRESS_TYPES = ("legacy", "p2sh-segwit", "bech32", "bech32m")
MAX_UNLOCKED_SECONDS = 100_000_000
_NO_WALLET = (
    "No wallet is loaded. Load a wallet using loadwallet or create a new one with createwallet. "
    "(Note: A default wallet is no longer automatically created)"
)


class WalletRpc:
    """What the node answers about its wallets. Whoever calls holds the chain's lock."""

    def __init__(
        self,
        chain: SandboxChain,
        wallets: Wallets,
        *,
        clock: Callable[[], float],
        switches: Switches,
    ) -> None:
        self._chain = chain
        self._wallets = wallets
        self._switches = switches
        self._clock = clock
        self._unlocked_until = 0.0

    def _wallet(self) -> SandboxWallet:
        loaded = self._wallets.loaded if self._switches.wallet_loaded else {}
        if self._wallets.chosen is not None:
            wallet = loaded.get(self._wallets.chosen)
            if wallet is None:
                reason = "Requested wallet does not exist or is not loaded"
                raise RpcError(RPC_NO_WALLET, reason)
            return wallet
        if not loaded:
            raise RpcError(RPC_NO_WALLET, _NO_WALLET)
        if len(loaded) > 1:
            reason = "Multiple wallets are loaded. Please select which wallet to use by requesting"
            raise RpcError(
                RPC_WHICH_WALLET, f"{reason} the RPC through the /wallet/<walletname> URI path."
            )
        return next(iter(loaded.values()))

    # Wallets

    def listwallets(self) -> list[str]:
        return list(self._wallets.loaded) if self._switches.wallet_loaded else []

    def createwallet(self, wallet_name: object, disable_private_keys: object = False) -> Json:
        name = text_of(wallet_name)
        if flag(disable_private_keys):
            raise RpcError(RPC_PARAMETER, "this node makes wallets with private keys only")
        if name in self._wallets:
            reason = f"Wallet file verification failed. Failed to create database path '{name}'."
            raise RpcError(RPC_WALLET_EXISTS, f"{reason} Database already exists.")
        self._wallets.make(name)
        self._switches.wallet_loaded = True
        return {"name": name}

    def loadwallet(self, filename: object, load_on_startup: object = None) -> Json:
        name = text_of(filename)
        if name in self.listwallets():
            raise RpcError(RPC_WALLET_LOADED, f'Wallet "{name}" is already loaded.')
        if name not in self._wallets:
            reason = "Path does not exist."
            raise RpcError(
                RPC_NO_WALLET,
                f"Wallet file verification failed. Failed to load database path '{name}'. {reason}",
            )
        if not self._switches.wallet_loaded:
            self._wallets.loaded.clear()
            self._switches.wallet_loaded = True
        self._wallets.load(name)
        return {"name": name}

    def unloadwallet(self, wallet_name: object = None, load_on_startup: object = None) -> Json:
        if wallet_name is not None:
            self._wallets.choose(text_of(wallet_name))
        del self._wallets.loaded[self._wallet().name]
        return {}

    def getwalletinfo(self) -> Json:
        wallet = self._wallet()
        shown: Json = {
            "walletname": wallet.name,
            "walletversion": 169900,
            "format": "sqlite",
            "txcount": sum(1 for _ in wallet.coins()),
            "keypoolsize": 1000,
            "keypoolsize_hd_internal": 1000,
        }
        if self._switches.wallet_passphrase is not None:
            shown["unlocked_until"] = 0 if self._is_locked() else int(self._unlocked_until)
        return shown | {
            "private_keys_enabled": True,
            "avoid_reuse": False,
            "scanning": False,
            "descriptors": True,
            "external_signer": False,
            "blank": False,
            "flags": ["last_hardened_xpub_cached", "descriptor_wallet"],
            **self._last_block(),
        }

    def _last_block(self) -> Json:
        tip = self._chain.tip
        return {"lastprocessedblock": {"hash": hash_hex(tip.hash), "height": tip.height}}

    # The passphrase

    def walletpassphrase(self, passphrase: object, timeout: object) -> None:
        self._wallet()
        if self._switches.wallet_passphrase is None:
            reason = "Error: running with an unencrypted wallet, but walletpassphrase was called."
            raise RpcError(RPC_ENCRYPTION_STATE, reason)
        seconds = integer(timeout)
        if seconds < 0:
            raise RpcError(RPC_PARAMETER, "Timeout cannot be negative.")
        if not text_of(passphrase):
            raise RpcError(RPC_PARAMETER, "passphrase cannot be empty")
        if passphrase != self._switches.wallet_passphrase:
            reason = "Error: The wallet passphrase entered was incorrect."
            raise RpcError(RPC_PASSPHRASE, reason)
        self._unlocked_until = self._clock() + min(seconds, MAX_UNLOCKED_SECONDS)

    def _is_locked(self) -> bool:
        encrypted = self._switches.wallet_passphrase is not None
        return encrypted and self._clock() >= self._unlocked_until

    def _check_unlocked(self) -> None:
        if self._is_locked():
            reason = "Error: Please enter the wallet passphrase with walletpassphrase first."
            raise RpcError(RPC_UNLOCK_NEEDED, reason)

    # Addresses

    def getnewaddress(self, label: object = "", address_type: object = None) -> str:
        wallet, words = self._wallet(), text_of(label)
        if words == "*":
            raise RpcError(RPC_LABEL, "Invalid label name")
        bech32 = self._is_bech32(address_type)
        return address_of(wallet.new_script(words, bech32=bech32))

    def getrawchangeaddress(self, address_type: object = None) -> str:
        wallet = self._wallet()
        return address_of(wallet.new_script(None, bech32=self._is_bech32(address_type)))

    def _is_bech32(self, address_type: object) -> bool:
        """This node spends no other kinds than p2pkh and p2wpkh, so its wallets have keys of no
        other."""
        usual = "bech32" if self._switches.segwit_wallet else "legacy"
        wanted = usual if address_type is None else text_of(address_type)
        if wanted not in ADDRESS_TYPES:
            raise RpcError(RPC_NOT_FOUND, f"Unknown address type '{wanted:.80}'")
        there = {"legacy": self._switches.legacy_addresses, "bech32": self._switches.segwit_wallet}
        if not there.get(wanted, False):
            raise RpcError(RPC_KEYPOOL, f"Error: No {wanted} addresses available.")
        return wanted == "bech32"

    def getaddressinfo(self, address: object) -> Json:
        wallet, script = self._wallet(), script_of(address)
        mine = wallet.owns(script)
        shown: Json = {
            "address": address,
            "scriptPubKey": script.hex(),
            "ismine": mine,
            "solvable": mine,
        }
        if mine:
            shown["desc"] = _described(wallet, script)
        witness = is_p2wpkh(script)
        scripted = not (is_p2pkh(script) or witness)
        shown |= {"iswatchonly": False, "isscript": scripted, "iswitness": witness}
        if mine:
            shown |= {"pubkey": wallet.public_key(script).hex(), "iscompressed": True}
        label = wallet.labels.get(script)
        shown["ischange"] = mine and label is None
        shown["labels"] = [label] if label is not None else []
        return shown

    # Coins

    def getbalances(self) -> Json:
        sums = {"trusted": 0, "untrusted_pending": 0, "immature": 0}
        for found in self._wallet().coins():
            kind = "trusted" if found.safe else "untrusted_pending"
            sums[kind if found.mature else "immature"] += found.coin.value
        return {"mine": {kind: amount(value) for kind, value in sums.items()}, **self._last_block()}

    def getbalance(self, dummy: object = "*", minconf: object = 0) -> str:
        least = integer(minconf)
        coins = (c for c in self._wallet().coins() if c.safe and c.mature)
        return amount(sum(c.coin.value for c in coins if c.confirmations >= least))

    def listunspent(
        self,
        minconf: object = 1,
        maxconf: object = 9_999_999,
        addresses: object = None,
        include_unsafe: object = True,
        query_options: object = None,
    ) -> list[Json]:
        """Of the wallet, and, where addresses are named, of those too that are not in it."""
        least, most, unsafe = integer(minconf), integer(maxconf), flag(include_unsafe)
        wanted: dict[bytes, object] = {}
        for address in [] if addresses is None else list_of(addresses):
            if script_of(address) in wanted:
                reason = f"Invalid parameter, duplicated address: {address}"
                raise RpcError(RPC_PARAMETER, reason)
            wanted[script_of(address)] = address
        options = query_options if isinstance(query_options, dict) else {}
        immature = flag(options.get("include_immature_coinbase", False))
        smallest = satoshis_of(options.get("minimumAmount", 0))
        wallet = self._wallet() if not wanted or self.listwallets() else None
        coins = [] if wallet is None else list(wallet.coins())
        if wanted:
            coins = [found for found in coins if found.coin.script in wanted]
            for script in wanted:
                if wallet is None or not wallet.owns(script):
                    coins += self._watched(script)
        return [
            self._shown(wallet, found)
            for found in coins
            if least <= found.confirmations <= most
            and (found.mature or immature)
            and (found.safe or unsafe)
            and found.coin.value >= smallest
            and (wallet is None or found.outpoint not in wallet.locked)
        ]

    def _watched(self, script: bytes) -> list[WalletCoin]:
        height, mempool = self._chain.height, self._chain.mempool
        found = [((u.txid, u.output_index), Coin(*u[2:])) for u in self._chain.unspent(script)]
        found += [((t, i), coin) for t, i, coin in self._chain.waiting_outputs(script)]
        return [
            WalletCoin(outpoint, coin, height - coin.height + 1, coin.height <= height)
            for outpoint, coin in found
            if mempool.spender(outpoint) is None
        ]

    def _shown(self, wallet: SandboxWallet | None, found: WalletCoin) -> Json:
        script = found.coin.script
        mine = wallet is not None and wallet.owns(script)
        shown: Json = {"txid": hash_hex(found.outpoint[0]), "vout": found.outpoint[1]}
        if address_of(script):
            shown["address"] = address_of(script)
        label = wallet.labels.get(script) if wallet is not None else None
        if label is not None:
            shown["label"] = label
        shown |= {
            "scriptPubKey": script.hex(),
            "amount": amount(found.coin.value),
            "confirmations": found.confirmations,
            "spendable": mine,
            "solvable": mine,
        }
        if wallet is not None and mine:
            shown["desc"] = _described(wallet, script)
        return shown | {"safe": found.safe}

    def lockunspent(
        self, unlock: object, transactions: object = None, persistent: object = False
    ) -> bool:
        wallet, unlocking, lasting = self._wallet(), flag(unlock), flag(persistent)
        if transactions is None:
            for outpoint in list(wallet.locked) if unlocking else []:
                wallet.lock(outpoint, False, False)
            return True
        places = [self._own_outpoint(wallet, entry) for entry in list_of(transactions)]
        for outpoint in places:
            if unlocking and outpoint not in wallet.locked:
                raise RpcError(RPC_PARAMETER, "Invalid parameter, expected locked output")
            if not unlocking and outpoint in wallet.locked and not lasting:
                raise RpcError(RPC_PARAMETER, "Invalid parameter, output already locked")
        for outpoint in places:
            wallet.lock(outpoint, not unlocking, lasting)
        return True

    def _own_outpoint(self, wallet: SandboxWallet, entry: object) -> Outpoint:
        outpoint = outpoint_of(entry)
        coin = self._chain.coin(outpoint, True)
        if coin is None and self._chain.knows(outpoint[0]):
            raise RpcError(RPC_PARAMETER, "Invalid parameter, expected unspent output")
        if coin is None or not wallet.owns(coin.script):
            raise RpcError(RPC_PARAMETER, "Invalid parameter, unknown transaction")
        return outpoint

    def listlockunspent(self) -> list[Json]:
        """Spending an output unlocks it, as it does in Core."""
        locked = self._wallet().locked
        there = [place for place in locked if self._chain.coin(place, True) is not None]
        return [{"txid": hash_hex(txid), "vout": index} for txid, index in there]


def _described(wallet: SandboxWallet, script: bytes) -> str:
    return described(wallet.public_key(script), "wpkh" if is_p2wpkh(script) else "pkh")
