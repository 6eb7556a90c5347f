"""What goes out for a signature comes back as the same transaction, or is refused by name."""

import base64
from dataclasses import replace
from itertools import combinations

import pytest
from embit.ec import PrivateKey, PublicKey
from embit.psbt import PSBT
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.bitcoin.spending import multisig_script, signature_hash
from indexer.bitcoin.transactions import (
    TxIn,
    TxOut,
    p2pkh_script,
    parse_transaction,
    serialize_transaction,
)
from indexer.wallet.coins import Coin, Unsigned
from indexer.wallet.keys import Key, KeyRing, script_of_redeem_script
from indexer.wallet.psbt import (
    BadPsbt,
    NotYetSigned,
    check_signed,
    combine,
    raw_unsigned,
    sign_psbt,
    signed_transaction,
    unsigned_of,
    write_psbt,
)
from tests.rings import sampled

KEYS = [Key(bytes((n,)) * 32) for n in range(1, 5)]
LONG = Key(b"\x09" * 32, compressed=False)
REDEEM = multisig_script(2, [key.public_key for key in KEYS[:3]])
SHARED = script_of_redeem_script(REDEEM)
STRANGER = p2pkh_script(b"\x0a" * 20)


def funded(*scripts: bytes, value: int = 100_000) -> tuple[tuple[Coin, ...], dict[bytes, bytes]]:
    """A coin of each script, and the transactions they come from."""
    previous, coins = {}, []
    for place, script in enumerate(scripts):
        spent = [TxIn(bytes((place + 1,)) * 32, place, b"\x51", 0xFFFFFFFF)]
        raw = serialize_transaction(2, spent, [TxOut(7, STRANGER), TxOut(value, script)], 0)
        txid = parse_transaction(raw).txid
        previous[txid] = raw
        coins.append(Coin(txid, 1, value, script))
    return tuple(coins), previous


def of(*scripts: bytes) -> tuple[Unsigned, str]:
    coins, previous = funded(*scripts)
    outputs = (TxOut(0, b"\x6a\x04data"), TxOut(50_000, STRANGER))
    unsigned = Unsigned(coins, outputs, 100_000 * len(coins) - 50_000)
    return unsigned, write_psbt(unsigned, previous, [REDEEM])


def finalised_by_another(psbt: str) -> bytes:
    """The transaction as rust-bitcoin's own finaliser puts it together."""
    bdk = pytest.importorskip("bdkpython")
    result = bdk.Psbt(psbt).finalize()
    assert result.could_finalize, result.errors
    return bytes(result.psbt.extract_tx_unchecked_fee_rate().serialize())


@pytest.mark.parametrize("key", [KEYS[0], LONG], ids=["compressed", "uncompressed"])
def test_a_signed_psbt_is_the_transaction_that_the_ring_signs_itself(key: Key) -> None:
    unsigned, psbt = of(key.script, key.script)
    ring = KeyRing([key])
    spent = [coin.script for coin in unsigned.coins]
    wanted = ring.sign(1, unsigned.inputs, unsigned.outputs, 0, spent)
    assert signed_transaction(sign_psbt(psbt, ring), unsigned) == wanted
    assert finalised_by_another(sign_psbt(psbt, ring)) == wanted


def test_a_witness_is_put_in_and_checked() -> None:
    public_key = KEYS[0].public_key
    script = b"\x00\x14" + KEYS[0].script[3:23]
    unsigned, psbt = of(script, KEYS[1].script)
    form = PSBT.from_string(sign_psbt(psbt, KeyRing(KEYS)))
    assert form.sign_with(PrivateKey(bytes((1,)) * 32)) == 1
    raw = signed_transaction(form.to_base64(), unsigned)
    assert raw == finalised_by_another(form.to_base64())
    with pytest.raises(NotYetSigned, match="input 0 is not signed"):
        signed_transaction(sign_psbt(psbt, KeyRing(KEYS)), unsigned)
    signature = form.inputs[0].partial_sigs[PublicKey.parse(public_key)]
    for wrong in (signature[:-1] + b"\x81", signature[:9] + b"\x00" + signature[10:], b"\x01"):
        form.inputs[0].partial_sigs[PublicKey.parse(public_key)] = wrong
        with pytest.raises(BadPsbt, match="input 0 does not hold"):
            signed_transaction(form.to_base64(), unsigned)


def test_two_of_three_sign_apart_and_are_combined_in_any_order() -> None:
    unsigned, psbt = of(SHARED, KEYS[3].script)
    alone = [sign_psbt(psbt, KeyRing([key])) for key in KEYS]
    for first, second in combinations(range(3), 2):
        for order in ((first, second, 3), (3, second, first)):
            together = combine([alone[place] for place in order])
            raw = signed_transaction(together, unsigned)
            assert raw == finalised_by_another(together)
            check_signed(raw, unsigned)


def test_a_missing_signature_is_counted() -> None:
    unsigned, psbt = of(SHARED)
    with pytest.raises(NotYetSigned, match="input 0 has 0 of 2 signatures"):
        signed_transaction(psbt, unsigned)
    with pytest.raises(NotYetSigned, match="input 0 has 1 of 2 signatures"):
        signed_transaction(sign_psbt(psbt, KeyRing(KEYS[:1])), unsigned)
    single, psbt = of(KEYS[0].script)
    with pytest.raises(NotYetSigned, match="input 0 is not signed yet"):
        signed_transaction(psbt, single)


def test_what_other_signers_write_is_taken_as_base64_bytes_or_hex() -> None:
    unsigned, psbt = of(KEYS[0].script)
    signed = sign_psbt(psbt, KeyRing(KEYS))
    raw = signed_transaction(signed, unsigned)
    lines = "\n".join(signed[at : at + 60] for at in range(0, len(signed), 60))
    for given_back in (
        lines,
        base64.b64decode(signed),
        raw.hex(),
        signed.encode(),
        f"{raw.hex()}\n",
    ):
        assert signed_transaction(given_back, unsigned) == raw
    final = PSBT.from_string(signed)
    final.inputs[0].final_scriptsig = type(final.tx).parse(raw).vin[0].script_sig
    final.inputs[0].partial_sigs.clear()
    assert signed_transaction(final.to_base64(), unsigned) == raw
    second = PSBT.from_string(signed)
    second.version = 2  # BIP 370, which Bitcoin Core 31 writes
    assert signed_transaction(second.to_base64(), unsigned) == raw


def test_another_transaction_than_the_one_that_went_out_is_refused() -> None:
    unsigned, psbt = of(KEYS[0].script)
    others = {
        "pays something else": replace(
            unsigned, outputs=(unsigned.outputs[0], TxOut(50_000, KEYS[3].script))
        ),
        "spends other coins": replace(
            unsigned, coins=(replace(unsigned.coins[0], index=0), *unsigned.coins[1:])
        ),
    }
    signed = sign_psbt(psbt, KeyRing(KEYS))
    for words, other in others.items():
        with pytest.raises(BadPsbt, match=words):
            signed_transaction(signed, other)
    ring, spent = KeyRing(KEYS), [KEYS[0].script]
    for version, locktime in ((3, 0), (1, 9)):
        raw = ring.sign(version, unsigned.inputs, unsigned.outputs, locktime, spent)
        with pytest.raises(BadPsbt, match="version or lock time"):
            check_signed(raw, unsigned)
    with pytest.raises(BadPsbt, match="different transactions"):
        combine([psbt, of(KEYS[1].script)[1]])


def test_a_signature_that_covers_a_part_only_is_refused() -> None:
    unsigned, _ = of(KEYS[0].script)
    bare = parse_transaction(raw_unsigned(unsigned))
    for hash_type in (2, 3, 0x81):
        digest = signature_hash(bare, 0, KEYS[0].script, hash_type)
        signature = KEYS[0].sign(digest)[:-1] + bytes((hash_type,))
        pushes = bytes((len(signature),)) + signature + b"\x21" + KEYS[0].public_key
        spent = bare.inputs[0]._replace(script_sig=pushes)
        raw = serialize_transaction(1, [spent], bare.outputs, 0)
        with pytest.raises(BadPsbt, match="covers only a part"):
            check_signed(raw, unsigned)


def test_a_wrong_signature_is_refused() -> None:
    unsigned, psbt = of(KEYS[0].script)
    other, _ = of(KEYS[0].script, KEYS[0].script)
    ring = KeyRing(KEYS)
    spent = [coin.script for coin in other.coins]
    lent = parse_transaction(ring.sign(1, other.inputs, other.outputs, 0, spent)).inputs[0]
    raw = serialize_transaction(1, [lent], unsigned.outputs, 0)
    with pytest.raises(BadPsbt, match="does not hold"):
        check_signed(raw, unsigned)
    assert parse_transaction(signed_transaction(sign_psbt(psbt, ring), unsigned)).txid


def test_a_coin_that_lies_about_its_value_never_goes_out() -> None:
    coins, previous = funded(KEYS[0].script)
    outputs = (TxOut(50_000, STRANGER),)
    for lie in (replace(coins[0], value=1), replace(coins[0], index=0), replace(coins[0], index=9)):
        with pytest.raises(BadPsbt):
            write_psbt(Unsigned((lie,), outputs, 1), previous)
    with pytest.raises(BadPsbt, match="missing"):
        write_psbt(Unsigned(coins, outputs, 1), {})


def test_a_ring_without_the_key_adds_nothing_and_says_so() -> None:
    _, psbt = of(KEYS[0].script)
    with pytest.raises(BadPsbt, match="none of the keys"):
        sign_psbt(psbt, KeyRing(KEYS[1:]))
    form = PSBT.from_string(psbt)
    form.inputs[0].non_witness_utxo.vout[0].value += 1  # another transaction than it spends
    with pytest.raises(BadPsbt):
        sign_psbt(form.to_base64(), KeyRing(KEYS))


def test_whoever_is_to_sign_can_see_what_it_spends_pays_and_costs() -> None:
    unsigned, psbt = of(SHARED, KEYS[0].script)
    assert unsigned_of(psbt) == unsigned
    assert unsigned_of(sign_psbt(psbt, KeyRing(KEYS))) == unsigned
    form = PSBT.from_string(psbt)
    form.inputs[1].non_witness_utxo = None
    with pytest.raises(BadPsbt, match="does not prove what input 1 spends"):
        unsigned_of(form.to_base64())
    coins, previous = funded(KEYS[0].script)
    greedy = write_psbt(Unsigned(coins, (TxOut(10**6, STRANGER),), 0), previous)
    with pytest.raises(BadPsbt, match="pays more than it spends"):
        unsigned_of(greedy)


def test_a_redeem_script_that_is_not_behind_the_output_is_not_signed() -> None:
    _, psbt = of(SHARED)
    form = PSBT.from_string(psbt)
    form.inputs[0].redeem_script.data = multisig_script(1, [KEYS[0].public_key])
    with pytest.raises(BadPsbt, match="none of the keys"):
        sign_psbt(form.to_base64(), KeyRing(KEYS))


@settings(max_examples=sampled(150), deadline=None)
@given(st.data())
def test_any_damage_ends_in_a_named_refusal_or_the_same_transaction(data: st.DataObject) -> None:
    unsigned, psbt = of(SHARED)
    signed = bytearray(base64.b64decode(sign_psbt(psbt, KeyRing(KEYS))))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(signed) - 1))
        signed[place] = data.draw(st.integers(0, 255))
    cut = bytes(signed[: data.draw(st.integers(0, len(signed)))])
    for spoiled in (bytes(signed), cut, cut.hex(), base64.b64encode(cut)):
        try:
            raw = signed_transaction(spoiled, unsigned)
        except BadPsbt:
            continue
        assert parse_transaction(raw).outputs == unsigned.outputs


@given(st.one_of(st.text(max_size=300), st.binary(max_size=300)))
def test_no_text_makes_it_fail_otherwise(given_back: str | bytes) -> None:
    unsigned, _ = of(KEYS[0].script)
    with pytest.raises(BadPsbt):
        signed_transaction(given_back, unsigned)
    with pytest.raises(BadPsbt):
        sign_psbt(given_back, KeyRing(KEYS))
    with pytest.raises(BadPsbt):
        unsigned_of(given_back)


def test_a_text_beyond_all_bounds_is_not_read() -> None:
    with pytest.raises(BadPsbt, match="too large"):
        sign_psbt("00" * 5_000_000, KeyRing(KEYS))
