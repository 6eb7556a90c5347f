"""Keys own scripts and sign what spends them; another implementation finds the signatures good."""

import pytest
from embit.ec import PrivateKey
from embit.networks import NETWORKS as EMBIT_NETWORKS
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.bitcoin.spending import (
    HALF_ORDER,
    ScriptFailed,
    multisig_script,
    read_pushes,
    verify_input,
)
from indexer.bitcoin.transactions import TxIn, TxOut, parse_transaction
from indexer.networks import MAINNET, REGTEST
from indexer.wallet.keys import (
    BadKey,
    CannotSign,
    Key,
    KeyRing,
    script_of_redeem_script,
)
from tests.rings import sampled

SECRETS = [bytes((n,)) * 32 for n in range(1, 5)]
KEYS = [Key(secret) for secret in SECRETS]


def spending(count: int) -> list[TxIn]:
    return [TxIn(bytes((n + 1,)) * 32, n, b"", 0xFFFFFFFF) for n in range(count)]


def test_a_key_comes_back_from_wallet_import_format() -> None:
    for network, embit_name in ((MAINNET, "main"), (REGTEST, "regtest")):
        for compressed in (True, False):
            key = Key(SECRETS[0], compressed=compressed)
            other = PrivateKey(SECRETS[0], compressed, EMBIT_NETWORKS[embit_name])
            assert key.wif(network) == other.wif()
            again = Key.from_wif(f" {other.wif()}\n", network)
            assert again.public_key == key.public_key == other.get_public_key().sec()


def test_the_address_of_the_smallest_secret_is_the_known_one() -> None:
    one = Key(bytes(31) + b"\x01")
    assert one.address(MAINNET) == "1BgGZ9tcN4rm9KBzDn7KprQz87SZ26SAMH"
    assert Key(bytes(31) + b"\x01", compressed=False).address(MAINNET) == (
        "1EHNa6Q4Jz2uvNExL497mE43ikXhwF6kZm"
    )


@pytest.mark.parametrize("secret", [b"", bytes(32), b"\xff" * 32, b"\x01" * 31, b"\x01" * 33])
def test_bytes_that_are_no_secret_are_refused(secret) -> None:
    with pytest.raises(BadKey):
        Key(secret)


def test_a_bad_key_text_is_refused_and_not_repeated() -> None:
    good = KEYS[0].wif(MAINNET)
    for text in ("", "x", good[:-1], good[:-1] + "1", good + "1", "0OIl"):
        with pytest.raises(BadKey) as refusal:
            Key.from_wif(text, MAINNET)
        assert good[5:20] not in str(refusal.value)
    with pytest.raises(BadKey, match="another network, not of regtest"):
        Key.from_wif(good, REGTEST)


def test_a_secret_is_in_no_text() -> None:
    ring = KeyRing(KEYS)
    for shown in (repr(KEYS[0]), str(KEYS[0]), repr(ring)):
        assert SECRETS[0].hex() not in shown
        assert KEYS[0].wif(MAINNET) not in shown


@settings(max_examples=sampled(30), deadline=None)
@given(st.integers(1, 3), st.integers(1, 4), st.binary(min_size=1, max_size=60))
def test_every_signed_input_holds_and_is_low_s(inputs, outputs, payload) -> None:
    ring = KeyRing(KEYS)
    spent = [KEYS[n].script for n in range(inputs)]
    pays = [TxOut(n, b"\x6a" + bytes((len(payload),)) + payload) for n in range(outputs)]
    raw = ring.sign(2, spending(inputs), pays, 7, spent)
    transaction = parse_transaction(raw)
    for index, script in enumerate(spent):
        verify_input(transaction, index, script)
        signature = read_pushes(transaction.inputs[index].script_sig)[0]
        s = signature[6 + signature[3] : -1]
        assert int.from_bytes(s, "big") <= HALF_ORDER
        assert signature[-1] == 1
        assert len(transaction.inputs[index].script_sig) <= ring.spending_size(script)
    assert ring.sign(2, spending(inputs), pays, 7, spent) == raw


def test_a_signature_covers_outputs_locktime_and_place() -> None:
    ring = KeyRing(KEYS)
    raw = ring.sign(1, spending(1), [TxOut(5, b"\x51")], 0, [KEYS[0].script])
    for place, byte in ((-5, 0x52), (-1, 1), (4 + 1 + 32, 9)):
        changed = bytearray(raw)
        changed[place] = byte
        with pytest.raises(ScriptFailed):
            verify_input(parse_transaction(bytes(changed)), 0, KEYS[0].script)


@pytest.mark.parametrize(
    ("required", "present"), [(1, [2]), (2, [0, 2]), (2, [2, 1, 0]), (3, [1, 2, 0])]
)
def test_enough_of_the_keys_spend_a_multisig_output(required, present) -> None:
    redeem_script = multisig_script(required, [key.public_key for key in KEYS[:3]])
    script = script_of_redeem_script(redeem_script)
    ring = KeyRing([KEYS[n] for n in present], [redeem_script])
    assert script in ring
    raw = ring.sign(1, spending(2), [TxOut(5, b"\x51")], 0, [script, script])
    transaction = parse_transaction(raw)
    verify_input(transaction, 0, script)
    verify_input(transaction, 1, script)
    assert len(transaction.inputs[0].script_sig) <= ring.spending_size(script)


def test_what_is_not_ours_is_not_signed_and_the_input_is_named() -> None:
    redeem_script = multisig_script(2, [key.public_key for key in KEYS[:3]])
    ring = KeyRing(KEYS[:1], [redeem_script])
    pays = [TxOut(5, b"\x51")]
    cases = [
        (KEYS[3].script, "input 1 spends an output of a key"),
        (script_of_redeem_script(redeem_script), "input 1 has 1 of 2 signatures"),
        (script_of_redeem_script(b"\x51"), "no m-of-n multisig whose script is here"),
        (b"\x00\x14" + bytes(20), "of no key and of no m-of-n"),
    ]
    for script, reason in cases:
        with pytest.raises(CannotSign, match=reason):
            ring.sign(1, spending(2), pays, 0, [KEYS[0].script, script])
    with pytest.raises(ValueError, match="shorter"):
        ring.sign(1, spending(2), pays, 0, [KEYS[0].script])


def test_a_multisig_that_no_node_would_spend_is_not_made() -> None:
    keys = [key.public_key for key in KEYS]
    for required, chosen in ((0, keys), (5, keys), (1, []), (1, [b"short"]), (1, keys * 4)):
        with pytest.raises(ValueError):
            multisig_script(required, chosen)
    with pytest.raises(ValueError, match="only m-of-n"):
        KeyRing([], [b"\x51\x21\xae"])
