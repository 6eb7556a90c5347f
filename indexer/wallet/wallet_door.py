"""Asking one wallet of a Bitcoin node, and its errors in words for people.

What must stay true: every failure is a SignerError that says what to do next.
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlsplit

from indexer.node.node import BitcoinNode, NodeError, NodeRefused, NodeRpcError, NodeUnavailable
from indexer.wallet.signers import (
    NoLegacyAddresses,
    NoWallet,
    SignerError,
    SignerUnavailable,
    WalletLocked,
)

MAX_WALLET_NAME = 200
WALLET_ERROR, FUNDS, KEYPOOL, UNLOCK, NO_WALLET, WHICH_WALLET = -4, -6, -12, -13, -18, -19
_METHOD_NOT_FOUND, _PARAMETER = -32601, -8


class BadParameter(SignerError):
    """Core's -8."""


class WalletDoor:
    """The RPC of a wallet. May be shared by threads."""

    def __init__(self, node: BitcoinNode, wallet: str | None) -> None:
        """``wallet``: its name, where more than one may be loaded; ValueError for a bad one."""
        self.node = node
        self.wallet = wallet
        self.named = "" if wallet is None else f" {wallet!r}"
        self._door = node
        if wallet is not None:
            if len(wallet) > MAX_WALLET_NAME or not wallet.isprintable():
                raise ValueError("this is no name of a wallet")
            given = node.place_and_key
            path = "/wallet/" + quote(wallet, safe="")
            url = urlsplit(given["url"])._replace(path=path).geturl()
            self._door = BitcoinNode(**{**given, "url": url})

    def close(self) -> None:
        """End its own connections."""
        if self._door is not self.node:
            self._door.close()

    def ask(self, method: str, *params: object) -> Any:
        """What the wallet answers. Raises SignerError."""
        try:
            return self._door.call(method, *params)
        except (NodeUnavailable, NodeRefused) as failure:
            raise SignerUnavailable(f"{failure}; nothing was paid") from None
        except NodeRpcError as failure:
            raise self._translated(failure) from None
        except NodeError as failure:
            raise SignerError(f"{failure}; nothing was paid") from None

    def ask_object(self, method: str, *params: object) -> Mapping[str, Any]:
        """An answer that is a JSON object."""
        shown = self.ask(method, *params)
        if not isinstance(shown, Mapping):
            raise self.nonsense(method)
        return shown

    def nonsense(self, method: str) -> SignerError:
        """What to raise where the answer to ``method`` is none."""
        return SignerError(
            f"the node at {self.node.place} answered {method} with something that is no answer to "
            "it; nothing was paid. Check that it is Bitcoin Core 25 or later"
        )

    def _translated(self, failure: NodeRpcError) -> SignerError:
        code, message = failure.code, failure.message
        wallet, node = f"the wallet{self.named}", f"the node at {self.node.place}"
        if code == UNLOCK:
            return WalletLocked(
                f"{wallet} of {node} is locked; unlock it (bitcoin-cli walletpassphrase) and it "
                "goes on. Nothing was paid"
            )
        if code == NO_WALLET:
            return NoWallet(
                f"{node} has no wallet{self.named} loaded; load it (bitcoin-cli loadwallet) or "
                "make one (createwallet). Nothing was paid"
            )
        if code == WHICH_WALLET:
            return NoWallet(
                f"{node} has several wallets loaded; say in node_wallet which one is to pay. "
                "Nothing was paid"
            )
        if code == _METHOD_NOT_FOUND:
            return NoWallet(
                f"{node} knows no {failure.method}: its wallet is off (disablewallet=1), or it is "
                "not Bitcoin Core; use another node or a key file. Nothing was paid"
            )
        if code == KEYPOOL and "ran out" in message:
            return WalletLocked(
                f"{wallet} has no addresses left that were made before it was locked; unlock it "
                "(bitcoin-cli walletpassphrase) and let it make more (keypoolrefill). "
                "Nothing was paid"
            )
        if code == KEYPOOL or "legacy" in message:
            return NoLegacyAddresses(
                f"{wallet} makes no legacy addresses ({message}), and no others can own names; "
                "import a pkh() descriptor, or use another wallet. Nothing was paid"
            )
        kind = BadParameter if code == _PARAMETER else SignerError
        return kind(f"{failure}; nothing was paid")
