"""A key file is read only where it is private and whole, and no text ever shows a key."""

import os
import pty
import stat
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.bitcoin.spending import multisig_script
from indexer.networks import MAINNET, REGTEST
from indexer.wallet import key_storage
from indexer.wallet.key_storage import (
    BadKeyText,
    KeyFileError,
    PassphraseWanted,
    WrongPassphrase,
    is_encrypted,
    load_keys,
    make_keys,
    read_key_text,
    read_passphrase,
    write_key_text,
    write_keys,
)
from indexer.wallet.keys import Key, script_of_redeem_script

KEYS = [Key(bytes((n,)) * 32) for n in range(1, 4)]
REDEEM = multisig_script(2, [key.public_key for key in KEYS])
SHARED = script_of_redeem_script(REDEEM)
QUICK = 1 << 4  # scrypt's work in these tests


def private(path: Path, text: str) -> Path:
    path.touch(0o600)
    path.write_text(text, "utf-8")
    return path


# The text


def test_keys_multisig_and_comments_are_read() -> None:
    wif = [key.wif(REGTEST) for key in KEYS]
    public = " ".join(key.public_key.hex() for key in KEYS)
    text = f"# mine\n\n  {wif[0]}  # alice\n{wif[1]}\nmultisig 2 {public}\n\tredeem {REDEEM.hex()}"
    ring = read_key_text(text, REGTEST)
    assert set(ring.scripts) == {KEYS[0].script, KEYS[1].script, SHARED}
    assert ring.redeem_script(SHARED) == REDEEM
    written = write_key_text(KEYS, REGTEST, [REDEEM])
    assert set(read_key_text(written, REGTEST).scripts) == {*(k.script for k in KEYS), SHARED}


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda wif: wif[:-1], "line 2 of the key file: this is no private key"),
        (lambda wif: f"{wif} {wif}", "line 2 of the key file: one key a line"),
        (lambda wif: "multisig", "line 2 of the key file: no multisig"),
        (lambda wif: "multisig 4 02aa", "line 2 of the key file: no multisig"),
        (lambda wif: f"multisig x {wif}", "line 2 of the key file: no multisig"),
        (lambda wif: f"redeem {wif}", "line 2 of the key file: no multisig"),
        (lambda wif: "redeem", "redeem takes one script"),
        (lambda wif: "redeem 6a", "line 2 of the key file: no multisig"),
        (lambda wif: "", "no private key in the key file"),
        (lambda wif: KEYS[0].wif(MAINNET), "another network, not of regtest"),
        (lambda wif: "#" * 300_000, "too large"),
        (lambda wif: f"redeem {REDEEM.hex()}\n" * 1_001, "more than 1000 lines"),
    ],
)
def test_a_line_that_is_none_is_named_by_number_and_not_shown(spoil, words) -> None:
    wif = KEYS[0].wif(REGTEST)
    with pytest.raises(BadKeyText, match=words) as refusal:
        read_key_text("# mine\n" + spoil(wif), REGTEST)
    assert wif[4:20] not in str(refusal.value)
    assert KEYS[0].wif(MAINNET)[4:20] not in str(refusal.value)
    assert refusal.value.__cause__ is None
    assert refusal.value.__suppress_context__ or refusal.value.__context__ is None


@given(st.text(max_size=200))
def test_any_text_is_keys_or_a_named_refusal(text: str) -> None:
    with pytest.raises(BadKeyText):
        read_key_text(text, REGTEST)


# The file


def test_a_made_file_is_private_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    made = make_keys(path, REGTEST, 5)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_keys(path, REGTEST).scripts == made.scripts
    assert len(set(made.scripts)) == 5
    assert not is_encrypted(path)
    before = path.read_bytes()
    with pytest.raises(KeyFileError, match="is there already"):
        make_keys(path, REGTEST, 5)
    assert path.read_bytes() == before
    with pytest.raises(KeyFileError, match="cannot write"):
        make_keys(tmp_path / "nowhere" / "keys", REGTEST, 1)
    with pytest.raises(KeyFileError, match="not written"):
        write_keys(tmp_path / "other", "nonsense", REGTEST)
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o610, 0o601])
def test_a_file_that_others_may_read_is_refused_with_the_way_out(tmp_path: Path, mode: int) -> None:
    path = private(tmp_path / "keys", write_key_text(KEYS, REGTEST))
    path.chmod(mode)
    with pytest.raises(KeyFileError, match=r"others may read .*chmod 600"):
        load_keys(path, REGTEST)
    with pytest.raises(KeyFileError, match=r"others may read .*chmod 600"):
        read_passphrase(path)
    path.chmod(0o400)
    assert load_keys(path, REGTEST).scripts


def test_links_folders_pipes_and_what_is_not_there_are_refused(tmp_path: Path) -> None:
    path = private(tmp_path / "keys", write_key_text(KEYS, REGTEST))
    (tmp_path / "link").symlink_to(path)
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
    os.mkfifo(tmp_path / "pipe", 0o600)  # with no writer: to open it must not wait
    private(tmp_path / "huge", "#" * 600_000)
    (tmp_path / "binary").touch(0o600)
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    for name, words in (
        ("link", "is a link"),
        ("dangling", "is a link"),
        ("pipe", "no ordinary file"),
        (".", "no ordinary file|cannot open"),
        ("nothing", "cannot open .*No such file"),
        ("huge", "too large"),
        ("binary", "no text"),
    ):
        with pytest.raises(KeyFileError, match=words):
            load_keys(tmp_path / name, REGTEST)


def test_a_file_of_another_user_is_refused(tmp_path: Path, monkeypatch) -> None:
    path = private(tmp_path / "keys", write_key_text(KEYS, REGTEST))
    monkeypatch.setattr(key_storage.os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(KeyFileError, match="belongs to another user"):
        load_keys(path, REGTEST)


# The passphrase


def test_an_encrypted_file_opens_with_its_passphrase_alone(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    made = make_keys(path, REGTEST, 3, "correct horse ü", n=QUICK)
    assert is_encrypted(path)
    assert load_keys(path, REGTEST, "correct horse ü").scripts == made.scripts
    with pytest.raises(PassphraseWanted, match="its passphrase is wanted"):
        load_keys(path, REGTEST)
    for wrong in ("correct horse u", "", "x" * 1_000):
        with pytest.raises(WrongPassphrase, match="try again"):
            load_keys(path, REGTEST, wrong)
    with pytest.raises(KeyFileError, match="another network"):
        load_keys(path, MAINNET, "correct horse ü")
    other = tmp_path / "other"
    make_keys(other, REGTEST, 3, "correct horse ü", n=QUICK)
    assert path.read_text().splitlines()[0] != other.read_text().splitlines()[0]  # its salt


def test_nothing_of_a_key_is_in_an_encrypted_file(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    write_keys(path, write_key_text(KEYS, REGTEST, [REDEEM]), REGTEST, "words", n=QUICK)
    content = path.read_text()
    for key in KEYS:
        assert key.wif(REGTEST)[:12] not in content
        assert key.address(REGTEST) not in content
    assert load_keys(path, REGTEST, "words").redeem_script(SHARED) == REDEEM


def test_a_changed_file_is_never_half_believed(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    make_keys(path, REGTEST, 1, "words", n=QUICK)
    content = path.read_bytes()
    header = content.index(b"\n")
    for place in range(len(content)):
        if content[place : place + 1] == b"\n":
            continue
        changed = bytearray(content)
        changed[place] = ord("A") if changed[place] != ord("A") else ord("B")
        path.write_bytes(changed)
        with pytest.raises(KeyFileError):
            load_keys(path, REGTEST, "words")
    for cut in range(0, len(content) - 1, 7):
        path.write_bytes(content[:cut])
        with pytest.raises(KeyFileError):
            load_keys(path, REGTEST, "words")
    fields = content[:header].split(b" ")
    for place, value in ((3, b"2097152"), (3, b"17"), (3, b"1"), (4, b"99"), (5, b"0"), (6, b"00")):
        costly = [*fields[:place], value, *fields[place + 1 :]]
        path.write_bytes(b" ".join(costly) + content[header:])
        with pytest.raises(KeyFileError, match="damaged"):
            load_keys(path, REGTEST, "words")


def test_what_is_made_takes_work_to_try_passphrases_on(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    make_keys(path, REGTEST, 1, "words")
    assert path.read_text().split(" ")[:6] == ["blockstore-keys", "1", "scrypt", "131072", "8", "1"]
    assert load_keys(path, REGTEST, "words").scripts


def test_a_passphrase_comes_from_a_private_file_or_the_terminal(
    tmp_path: Path, monkeypatch
) -> None:
    path = private(tmp_path / "words", "correct horse\nmore\n")
    assert read_passphrase(path) == "correct horse"
    private(tmp_path / "empty", "")
    with pytest.raises(KeyFileError, match="1 to 1000 characters"):
        read_passphrase(tmp_path / "empty")
    monkeypatch.setattr("sys.stdin", (tmp_path / "words").open())
    with pytest.raises(PassphraseWanted, match="no terminal"):
        read_passphrase(None)
    asked, terminal = pty.openpty()
    with open(terminal) as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        monkeypatch.setattr(key_storage.getpass, "getpass", lambda prompt: "typed words")
        assert read_passphrase(None) == "typed words"
    os.close(asked)


def test_threads_that_read_one_file_get_the_same_keys(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    made = make_keys(path, REGTEST, 2, "words", n=QUICK)
    found: list[tuple[bytes, ...]] = []
    threads = [
        threading.Thread(target=lambda: found.append(load_keys(path, REGTEST, "words").scripts))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert found == [made.scripts] * 4


@pytest.mark.parametrize(
    ("n", "r", "p", "is_tried"),
    [
        (1 << 17, 8, 1, True),
        (1 << 17, 16, 1, True),
        (1 << 20, 16, 1, False),  # 2 GiB
        (1 << 19, 8, 1, False),
        (1 << 17, 8, 5, False),
        (1 << 17, 32, 1, False),
    ],
)
def test_a_file_cannot_have_more_memory_taken_than_256_mib(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n: int, r: int, p: int, is_tried: bool
) -> None:
    path = tmp_path / "keys"
    make_keys(path, REGTEST, 1, "secret", n=QUICK)
    header, _, body = path.read_text().partition("\n")
    *_, salt = header.split(" ")
    path.write_text(f"blockstore-keys 1 scrypt {n} {r} {p} {salt}\n{body}")
    monkeypatch.setattr(key_storage, "_derived", lambda *_: bytes(32))
    kind = WrongPassphrase if is_tried else KeyFileError
    with pytest.raises(kind, match="does not open" if is_tried else "damaged"):
        load_keys(path, REGTEST, "secret")
