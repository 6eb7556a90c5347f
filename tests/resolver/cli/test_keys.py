"""Files of keys on the command line: made, shown, and signed with, on a machine by itself."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from indexer.bitcoin.transactions import (
    TxIn,
    TxOut,
    p2pkh_script,
    parse_transaction,
    script_address,
    serialize_transaction,
)
from indexer.networks import SANDBOX
from indexer.wallet.coins import Coin, Unsigned
from indexer.wallet.key_storage import load_keys
from indexer.wallet.psbt import signed_transaction, write_psbt
from resolver.blockstore_cli import cli
from resolver.cli import waiting as cli_waiting
from resolver.cli.asking import Daemon
from resolver.cli.which_daemon import AtPort

TO = p2pkh_script(b"\7" * 20)


def run(*words: str, typed: str = "") -> Result:
    return CliRunner().invoke(cli, words, input=typed)


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    path = tmp_path / "the.keys"
    made = run("keys", str(path), "--new", "2", "--network", "sandbox")
    assert made.exit_code == 0
    return path


def unsigned_for(keys: Path) -> tuple[Unsigned, str]:
    """A payment from the first key, and the PSBT that asks for its signature."""
    script = load_keys(keys, SANDBOX).scripts[0]
    before = serialize_transaction(
        1, [TxIn(b"\1" * 32, 0, b"", 0xFFFFFFFF)], [TxOut(10_000, script)], 0
    )
    txid = parse_transaction(before).txid
    said = TxOut(0, b"\x6a\x0bid:alice.id")
    outputs = (said, TxOut(8_000, TO))
    unsigned = Unsigned((Coin(txid, 0, 10_000, script),), outputs, 2_000)
    return unsigned, write_psbt(unsigned, {txid: before})


def test_a_key_file_is_private_and_shows_its_addresses(keys):
    assert keys.stat().st_mode & 0o777 == 0o600
    shown = run("--json", "keys", str(keys), "--network", "sandbox")
    for script in load_keys(keys, SANDBOX).scripts:
        assert len(script) == 25
    assert shown.output.count('"m') + shown.output.count('"n') >= 2
    for line in keys.read_text().splitlines():
        if not line.startswith("#"):
            assert line.split()[0] not in shown.output


def test_what_is_there_already_is_not_written_over(keys):
    before = keys.read_bytes()
    again = run("keys", str(keys), "--new", "1", "--network", "sandbox")
    assert again.exit_code == 2
    assert "is there already" in again.stderr
    assert keys.read_bytes() == before


def test_an_encrypted_file_opens_with_its_passphrase_only(tmp_path):
    path, words = tmp_path / "keys", tmp_path / "passphrase"
    words.write_text("correct horse battery staple\n")
    words.chmod(0o600)
    common = ("--network", "sandbox", "--passphrase-file", str(words))
    assert run("keys", str(path), "--new", "1", "--encrypt", *common).exit_code == 0
    assert "correct" not in path.read_text()
    assert run("keys", str(path), *common).exit_code == 0
    words.write_text("wrong\n")
    refused = run("keys", str(path), *common)
    assert refused.exit_code == 2
    assert "wrong\n" not in refused.output


def test_keys_of_another_network_are_refused(keys):
    refused = run("keys", str(keys))
    assert refused.exit_code == 2
    assert "another network" in refused.stderr


def test_a_psbt_is_shown_and_signed_once_it_is_agreed_to(keys, tmp_path):
    unsigned, psbt = unsigned_for(keys)
    file = tmp_path / "payment.psbt"
    file.write_text(psbt)
    words = ("sign", str(file), "--key-file", str(keys), "--network", "sandbox")
    refused = run(*words, typed="n\n")
    assert refused.exit_code == 17
    assert file.read_text() == psbt
    for told in ("10,000 satoshis", "8,000 satoshis", "2,000 satoshis for the miner", "id:alice"):
        assert told in refused.stderr
    signed = run(*words, typed="y\n")
    assert signed.exit_code == 0
    raw = signed_transaction(file.read_text().strip(), unsigned)
    assert parse_transaction(raw).outputs == unsigned.outputs


@pytest.mark.parametrize("content", [b"", b"rubbish", b"psbt\xff\x00", b"\xff" * 100])
def test_what_is_no_psbt_is_told(keys, tmp_path, content):
    file = tmp_path / "payment.psbt"
    file.write_bytes(content)
    refused = run("sign", str(file), "--key-file", str(keys), "--network", "sandbox", "--yes")
    assert refused.exit_code == 2
    assert "Next: nothing was signed" in refused.stderr


def test_a_stranger_to_the_coins_signs_nothing(keys, tmp_path):
    _, psbt = unsigned_for(keys)
    other, file = tmp_path / "other.keys", tmp_path / "payment.psbt"
    run("keys", str(other), "--new", "1", "--network", "sandbox")
    file.write_text(psbt)
    refused = run("sign", str(file), "--key-file", str(other), "--network", "sandbox", "--yes")
    assert refused.exit_code == 2
    assert "none of the keys here" in refused.stderr


# --- keys that sign in a command, before a daemon that may not be one's own


class Composing(Daemon):
    """Asks for signatures under PSBTs of its own making, one after the other."""

    psbts: list[str]
    handed: list[str]

    def try_asking(
        self, method: str, path: str, body: bytes | None, *, secret: bool = False
    ) -> tuple[int, Any]:
        if path == "/v1/info":
            return 200, {"network": "sandbox"}
        if path == "/v1/registrar/plan":
            return 200, {"plan": {"total": 2_600}, "text": ["It costs 2,600 satoshis."]}
        if path.endswith("/continue"):
            assert body is not None
            self.handed.append(json.loads(body)["psbt"])
        job = {"id": "abcdef0123", "wish": {"wish": "revoke"}, "subject": "alice.id", "note": ""}
        if len(self.handed) == len(self.psbts):
            return 200, job | {"state": "done", "steps": []}
        waiting = {"state": "waiting-for-signature", "steps": []}
        return 200, job | waiting | {"psbt": self.psbts[len(self.handed)]}


@pytest.fixture
def composing(monkeypatch: pytest.MonkeyPatch) -> Composing:
    made = Composing(AtPort("127.0.0.1", 1), 1.0)
    made.psbts, made.handed = [], []
    monkeypatch.setattr("resolver.blockstore_cli.Daemon", lambda *_: made)
    return made


def psbt_for(keys: Path, coin: int, *, pays: int, to: bytes = TO, change: int = 0) -> str:
    """The PSBT of a payment from the first key, out of the output ``coin`` of 10,000 satoshis."""
    script = load_keys(keys, SANDBOX).scripts[0]
    given = [TxOut(10_000, script)] * 3
    before = serialize_transaction(1, [TxIn(b"\1" * 32, 0, b"", 0xFFFFFFFF)], given, 0)
    txid = parse_transaction(before).txid
    outputs = (TxOut(pays, to), TxOut(change, script))
    unsigned = Unsigned((Coin(txid, coin, 10_000, script),), outputs, 10_000 - pays - change)
    return write_psbt(unsigned, {txid: before})


def revoke(keys: Path) -> Result:
    return run("revoke", "alice", "--yes", "--key-file", str(keys))


def test_what_was_agreed_to_is_signed(keys, composing):
    composing.psbts = [psbt_for(keys, 0, pays=2_000, change=7_500)]
    assert revoke(keys).exit_code == 0
    assert len(composing.handed) == 1


def test_a_transaction_in_the_place_of_another_counts_once(keys, composing):
    composing.psbts = [psbt_for(keys, 0, pays=2_000, change=left) for left in (7_900, 7_500, 7_400)]
    assert revoke(keys).exit_code == 0
    assert len(composing.handed) == 3


@pytest.mark.parametrize("signed", [0, 1])
def test_what_takes_more_than_was_agreed_to_is_shown_and_not_signed(keys, composing, signed):
    """All at once, or each time a little."""
    greedy = psbt_for(
        keys, 1, pays=9_000 if signed == 0 else 1_500, change=0 if signed == 0 else 8_400
    )
    composing.psbts = [psbt_for(keys, 0, pays=1_000, change=8_900)] * signed + [greedy]
    refused = revoke(keys)
    assert refused.exit_code == 17
    assert len(composing.handed) == signed
    assert "pays   " in refused.stderr
    assert "2600 were agreed to" in refused.stderr


def test_to_whom_change_goes_is_looked_at_and_not_what_it_is_called(keys, composing):
    thief = script_address(TO, SANDBOX)
    composing.psbts = [psbt_for(keys, 0, pays=9_500)]
    refused = revoke(keys)
    assert refused.exit_code == 17
    assert f"9,500 satoshis to {thief}" in refused.stderr


def test_more_may_be_agreed_to_on_a_terminal(keys, composing, monkeypatch):
    monkeypatch.setattr(cli_waiting, "is_somebody_here", lambda: True)
    composing.psbts = [psbt_for(keys, 0, pays=9_000)]
    result = CliRunner().invoke(cli, ("resume", "abcdef0123", "--key-file", str(keys)), input="y\n")
    assert result.exit_code == 0
    assert len(composing.handed) == 1
