"""Jobs as values, as JSON and as files: what is written is read back, and nothing else is."""

import errno
import json
import math
import os
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from indexer.bitcoin.transactions import TxOut, p2pkh_script, p2sh_script
from indexer.networks import REGTEST, SANDBOX
from indexer.registrar.planning.steps import Parties, StepKind
from indexer.registrar.planning.wishes import (
    PreorderNamespace,
    RegisterName,
    TransferName,
    UpdateName,
)
from indexer.registrar.work import journal as journal_file
from indexer.registrar.work.jobs import (
    MAX_ATTEMPTS,
    MAX_EVENTS,
    Attempt,
    BadJob,
    Event,
    Job,
    State,
    Step,
    job_json,
    read_job,
)
from indexer.registrar.work.journal import Journal, JournalError, TooManyJobs
from indexer.wallet.coins import Coin, Unsigned
from tests.indexer.registrar.fakes import DIGEST, POOR, World, fast_folder
from tests.rings import sampled

scripts = st.binary(min_size=20, max_size=20).map(p2pkh_script) | st.binary(
    min_size=20, max_size=20
).map(p2sh_script)
amounts = st.integers(0, 21 * 10**14)
heights = st.integers(0, 2**31)
txids = st.binary(min_size=32, max_size=32)
coins = st.builds(Coin, txids, st.integers(0, 2**32 - 1), amounts, scripts)
unsigned = st.builds(
    Unsigned,
    st.lists(coins, min_size=1, max_size=3).map(tuple),
    st.lists(st.builds(TxOut, amounts, st.binary(max_size=90)), max_size=4).map(tuple),
    amounts,
    st.none() | st.integers(0, 3),
)
attempts = st.builds(
    Attempt,
    unsigned,
    st.floats(0, 1e6),
    heights,
    raw=st.none() | st.binary(max_size=300),
    txid=st.none() | txids,
    psbt=st.none() | st.text(max_size=40),
    price=amounts,
    consensus_hash=st.none() | st.binary(min_size=16, max_size=16),
    cancels=st.booleans(),
    refusal=st.none() | st.text(max_size=40),
)
steps = st.builds(
    Step,
    st.sampled_from(StepKind),
    attempts=st.lists(attempts, max_size=1).map(tuple),
    lost=st.lists(attempts, max_size=2).map(tuple),
    forgone=st.lists(attempts, max_size=1).map(tuple),
    done=st.booleans(),
    amount=amounts,
    missing_since=st.none() | heights,
    flawed_since=st.none() | heights,
)
digests = st.binary(min_size=20, max_size=20)
wishes = (
    st.builds(
        RegisterName,
        st.just("alice.id"),
        st.none() | digests,
        st.none() | scripts,
        st.none() | amounts,
    )
    | st.builds(UpdateName, st.just("alice.id"), digests)
    | st.builds(TransferName, st.just("alice.id"), scripts, st.booleans())
    | st.builds(PreorderNamespace, st.just("elsewhere"), scripts)
)
jobs = st.builds(
    Job,
    id=st.text("0123456789abcdefghijklmnopqrstuvwxyz", min_size=6, max_size=32),
    wish=wishes,
    parties=st.builds(Parties, scripts, st.none() | scripts, st.none() | scripts),
    signer=st.text(max_size=20),
    steps=st.lists(steps, max_size=4).map(tuple),
    created=st.integers(0, 2**37),
    max_fee_rate=st.floats(0, 1e6),
    state=st.sampled_from(State),
    note=st.text(max_size=60),
    stopping=st.booleans(),
    closed_at=st.none() | heights,
    history=st.lists(st.builds(Event, st.integers(0, 2**37), st.text(max_size=30)), max_size=4).map(
        tuple
    ),
)


def some_job(job_id: str = "job00001", **changes: Any) -> Job:
    values: dict[str, Any] = {
        "id": job_id,
        "wish": UpdateName("alice.id", b"\x07" * 20),
        "parties": Parties(p2pkh_script(b"\x01" * 20)),
        "signer": "purse",
        "steps": (Step(StepKind.UPDATE), Step(StepKind.VERIFY, done=True)),
        "created": 1_700_000_000,
        "max_fee_rate": 100.0,
    }
    return Job(**(values | changes))


def some_attempt(first: int = 1) -> Attempt:
    coin = Coin(bytes((first,)) * 32, 0, 50_000, p2pkh_script(b"\x01" * 20))
    paid = Unsigned((coin,), (TxOut(40_000, p2pkh_script(b"\x02" * 20)),), 10_000)
    return Attempt(paid, 20.0, 130, raw=b"raw", txid=bytes((first + 100,)) * 32)


# --- values


def test_every_transaction_of_a_step_must_spend_the_same_first_coin() -> None:
    job = some_job().with_attempt(0, some_attempt(1))
    assert len(job.with_attempt(0, some_attempt(1)).steps[0].attempts) == 2
    with pytest.raises(ValueError, match="same first coin"):
        job.with_attempt(0, some_attempt(2))


def test_a_step_that_begins_anew_keeps_what_was_tried() -> None:
    job = some_job().with_attempt(0, some_attempt(1))
    fresh = job.steps[0].anew()
    assert (fresh.attempts, fresh.lost, fresh.forgone) == ((), job.steps[0].attempts, ())
    other = job.with_step(0, fresh).with_attempt(0, some_attempt(2)).steps[0]
    forgone = other.anew(forgo=True)
    assert (forgone.attempts, forgone.lost) == ((), ())
    assert forgone.forgone == forgone.tried == (some_attempt(1), some_attempt(2))


def test_after_another_transaction_the_name_is_to_be_resolved_again() -> None:
    assert some_job().steps[1].done
    assert not some_job().with_attempt(0, some_attempt()).steps[1].done


def test_attempts_and_history_have_an_end() -> None:
    job = some_job()
    for _ in range(MAX_ATTEMPTS):
        job = job.with_attempt(0, some_attempt())
    with pytest.raises(ValueError, match="at most"):
        job.with_attempt(0, some_attempt())
    unsigned = replace(some_attempt(), raw=None, txid=None)
    signed, *others = job.steps[0].attempts
    job = job.with_step(0, replace(job.steps[0], attempts=(signed, unsigned, *others[1:])))
    attempts = job.with_attempt(0, some_attempt()).steps[0].attempts
    assert len(attempts) == MAX_ATTEMPTS
    assert unsigned not in attempts
    for number in range(MAX_EVENTS + 5):
        job = job.noted(State.RUNNING, f"note {number}", number)
    assert len(job.history) == MAX_EVENTS
    assert job.noted(job.state, job.note, 1) is job


# --- JSON


@settings(max_examples=sampled(50))
@given(jobs)
def test_a_job_is_read_back_as_it_was_written(job: Job) -> None:
    text = json.dumps(job_json(job, SANDBOX), allow_nan=False)
    assert read_job(json.loads(text), SANDBOX) == job


_WRONG: list[tuple[list[Any], Any]] = [
    (["version"], 2),
    (["network"], "mainnet"),
    (["wish"], {"wish": "steal", "name": "alice.id"}),
    (["wish"], None),
    (["id"], "../../etc/passwd"),
    (["id"], "short"),
    (["id"], 7),
    (["steps"], {}),
    (["steps", 0], []),
    (["steps", 0, "kind"], "dance"),
    (["steps", 0, "done"], 1),
    (["steps", 0, "attempts", 0, "txid"], "zz"),
    (["steps", 0, "attempts", 0, "price"], "7"),
    (["steps", 0, "attempts", 0, "price"], True),
    (["steps", 0, "attempts", 0, "fee_rate"], None),
    (["steps", 0, "attempts", 0, "unsigned", "coins"], []),
    (["steps", 0, "attempts", 0, "unsigned", "outputs", 0], [1, 2, 3]),
    (["parties", "sender"], 5),
    (["state"], "asleep"),
    (["created"], 1.5),
    (["history"], [{"time": 1}]),
    (["created"], -1),
    (["created"], 2**70),
    (["closed_at"], 2**32),
    (["max_fee_rate"], math.nan),
    (["max_fee_rate"], math.inf),
    (["max_fee_rate"], 10**400),
    (["max_fee_rate"], -0.5),
    (["fee_rate"], math.nan),
    (["steps", 0, "amount"], -1),
    (["steps", 0, "missing_since"], -1),
    (["steps", 0, "attempts", 0, "price"], 2**70),
    (["steps", 0, "attempts", 0, "made_at"], -1),
    (["steps", 0, "attempts", 0, "fee_rate"], math.nan),
    (["steps", 0, "attempts", 0, "unsigned", "coins", 0, "index"], 2**32),
    (["steps", 0, "attempts", 0, "unsigned", "coins", 0, "value"], 21 * 10**14 + 1),
    (["steps", 0, "attempts", 0, "unsigned", "outputs", 0, 0], -1),
    (["history"], [{"time": 10**15, "says": "later"}]),
]


@pytest.mark.parametrize(("place", "value"), _WRONG, ids=lambda v: str(v)[:40])
def test_what_is_no_job_is_refused_in_a_sentence(place: list[Any], value: Any) -> None:
    document: Any = json.loads(
        json.dumps(job_json(some_job().with_attempt(0, some_attempt()), SANDBOX))
    )
    assert read_job(document, SANDBOX)
    inner = document
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    with pytest.raises(BadJob) as refused:
        read_job(document, SANDBOX)
    assert str(refused.value)


def test_a_member_too_many_or_too_few_is_refused() -> None:
    document = job_json(some_job(), SANDBOX)
    with pytest.raises(BadJob, match="colour"):
        read_job({**document, "colour": "blue"}, SANDBOX)
    with pytest.raises(BadJob, match="note"):
        read_job({key: value for key, value in document.items() if key != "note"}, SANDBOX)
    with pytest.raises(BadJob):
        read_job([document], SANDBOX)


def test_two_first_coins_in_one_step_are_refused() -> None:
    job = some_job(steps=(Step(StepKind.UPDATE, (some_attempt(1), some_attempt(2))),))
    with pytest.raises(BadJob, match="same first coin"):
        read_job(job_json(job, SANDBOX), SANDBOX)


# --- files


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=10)
@given(st.lists(jobs, max_size=4, unique_by=lambda job: job.id))
def test_a_journal_that_is_opened_again_holds_the_same_jobs(
    tmp_path_factory: pytest.TempPathFactory, found: list[Job]
) -> None:
    folder = tmp_path_factory.mktemp("journal")
    with Journal(folder, SANDBOX) as journal:
        for job in found:
            journal.save(job)
    with Journal(folder, SANDBOX) as journal:
        assert sorted(journal.jobs(), key=lambda j: j.id) == sorted(found, key=lambda j: j.id)
        assert all(journal.load(job.id) == job for job in found)
        assert journal.load("absent0") is None
        assert not journal.set_aside


def test_only_the_owner_of_the_process_may_read_it(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal", SANDBOX) as journal:
        journal.save(some_job())
        journal.save_content(b"\x07" * 20, b"data")
        assert stat.S_IMODE(journal.folder.stat().st_mode) == 0o700
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in journal.folder.iterdir()}
    assert set(modes.values()) == {0o600}
    assert set(modes) == {"lock", "job00001.json", f"{'07' * 20}.data"}


def test_a_second_process_is_kept_out(tmp_path: Path) -> None:
    refused = pytest.raises(JournalError, match="in use by another process")
    with Journal(tmp_path, SANDBOX), refused:
        Journal(tmp_path, SANDBOX)
    Journal(tmp_path, SANDBOX).close()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b'{"version": 1',
        b"\xff\xfe\x00",
        b"[" * 100_000,
        b"null",
        b'{"version": 99}',
        b"9" * 5_000,
    ],
    ids=lambda content: repr(content[:12]),
)
def test_a_damaged_file_is_named_and_set_aside_and_the_others_are_read(
    tmp_path: Path, content: bytes
) -> None:
    with Journal(tmp_path, SANDBOX) as journal:
        journal.save(some_job("job00001"))
        journal.save(some_job("job00002"))
    (tmp_path / "job00001.json").write_bytes(content)
    with Journal(tmp_path, SANDBOX) as journal:
        assert [job.id for job in journal.jobs()] == ["job00002"]
        (said,) = journal.set_aside
        assert "job00001.json" in said
        assert "job00001.json.damaged" in said
    assert (tmp_path / "job00001.json.damaged").read_bytes() == content
    (tmp_path / "job00001.json").write_bytes(b"again")
    with Journal(tmp_path, SANDBOX):
        assert (tmp_path / "job00001.json.damaged2").read_bytes() == b"again"
        assert (tmp_path / "job00001.json.damaged").read_bytes() == content


@settings(suppress_health_check=list(HealthCheck), max_examples=sampled(100), deadline=None)
@given(st.data())
def test_a_file_in_which_anything_was_changed_is_set_aside(
    tmp_path: Path, data: st.DataObject
) -> None:
    job = some_job().with_attempt(0, some_attempt()).noted(State.RUNNING, "waiting", 1)
    with TemporaryDirectory(dir=tmp_path) as folder:
        with Journal(Path(folder), SANDBOX) as journal:
            journal.save(job)
        path = Path(folder) / f"{job.id}.json"
        members = json.loads(path.read_bytes())
        *way, last = data.draw(st.sampled_from(list(_places(members))))
        inner = members
        for key in way:
            inner = inner[key]
        value = data.draw(ODD.filter(lambda value: repr(value) != repr(inner[last])))
        inner[last] = value
        path.write_text(json.dumps(members))
        with Journal(Path(folder), SANDBOX) as journal:
            if (way, last, value) != ([], "checksum", None):
                assert journal.jobs() == []
                (said,) = journal.set_aside
                assert f"put a good copy of it back as {path.name} and start again" in said


ODD = (
    st.sampled_from([math.nan, math.inf, -1, 2**70, 0, 1, True, None, "", "zz", "done", [], {}])
    | st.integers()
    | st.floats()
    | st.text(max_size=40)
)


def _places(value: object) -> Iterator[tuple[Any, ...]]:
    """The way to every number and string of a document, and to whatever holds some."""
    inner = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, part in inner:
        yield (key,)
        yield from ((key, *rest) for rest in _places(part))


@settings(suppress_health_check=list(HealthCheck), max_examples=sampled(40), deadline=None)
@given(st.data())
def test_whatever_an_older_file_without_a_checksum_says_is_borne(
    made: Path, data: st.DataObject
) -> None:
    with TemporaryDirectory(dir=fast_folder()) as folder, World(made, Path(folder)) as world:
        job_id = world.begin(RegisterName("bob.id", DIGEST), POOR, fund=1_000_000)
        for _ in range(data.draw(st.integers(0, 3))):
            world.turn()
            world.mine()
        path = world.folder / "journal" / f"{job_id}.json"
        members = json.loads(path.read_bytes())
        del members["checksum"]
        *way, last = data.draw(st.sampled_from(list(_places(members))))
        inner = members
        for key in way:
            inner = inner[key]
        inner[last] = data.draw(ODD)
        path.write_text(json.dumps(members))
        world.crash()
        world.start()
        for _ in range(4):
            world.turn()
            assert "mistake" not in (world.runner.trouble or "")
            world.mine()
        assert len(world.burnt()) <= 1
        assert sum(len(step.tried) for job in world.journal.jobs() for step in job.steps) < 12


def test_every_torn_length_of_a_file_is_set_aside_or_whole(tmp_path: Path) -> None:
    with Journal(tmp_path, SANDBOX) as journal:
        journal.save(some_job().with_attempt(0, some_attempt()))
    path = tmp_path / "job00001.json"
    whole = path.read_bytes()
    for size in range(0, len(whole), 97):
        path.write_bytes(whole[:size])
        with Journal(tmp_path, SANDBOX) as journal:
            assert journal.jobs() == []
            assert len(journal.set_aside) == 1


def test_a_file_under_another_jobs_name_is_set_aside(tmp_path: Path) -> None:
    with Journal(tmp_path, SANDBOX) as journal:
        journal.save(some_job("job00001"))
    (tmp_path / "job00001.json").rename(tmp_path / "job00009.json")
    with Journal(tmp_path, SANDBOX) as journal:
        assert journal.jobs() == []
        assert "holds the job job00001" in journal.set_aside[0]


def test_a_job_of_another_network_is_not_carried_on(tmp_path: Path) -> None:
    with Journal(tmp_path, SANDBOX) as journal:
        journal.save(some_job())
    with Journal(tmp_path, REGTEST) as journal:
        assert journal.jobs() == []


@pytest.mark.parametrize("call", ["write", "fsync", "replace"])
def test_a_write_that_fails_leaves_the_former_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def fails(*_: object, **__: object) -> None:
        raise full

    with Journal(tmp_path, SANDBOX) as journal:
        before = some_job()
        journal.save(before)
        with monkeypatch.context() as broken:
            if call == "write":
                broken.setattr(os, "open", fails)
            elif call == "fsync":
                broken.setattr(os, "fsync", fails)
            else:
                broken.setattr(Path, "replace", fails)
            with pytest.raises(JournalError, match=r"No space left on device; make room"):
                journal.save(before.noted(State.FAILED, "changed", 1))
            assert journal.load(before.id) == before
    with Journal(tmp_path, SANDBOX) as journal:
        assert journal.jobs() == [before]
        assert not list(tmp_path.glob("*.tmp"))


def test_what_was_half_written_when_the_process_died_is_forgotten(tmp_path: Path) -> None:
    with Journal(tmp_path, SANDBOX) as journal:
        journal.save(some_job())
    (tmp_path / "job00001.json.tmp").write_bytes(b'{"half')
    with Journal(tmp_path, SANDBOX) as journal:
        assert journal.jobs() == [some_job()]
    assert not (tmp_path / "job00001.json.tmp").exists()


def test_each_write_is_waited_for_with_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[bool] = []
    real = os.fsync

    def fsync(file: int) -> None:
        waited.append(stat.S_ISDIR(os.fstat(file).st_mode))
        real(file)

    with Journal(tmp_path, SANDBOX) as journal:
        monkeypatch.setattr(os, "fsync", fsync)
        journal.save(some_job())
    assert waited == [False, True]


def test_open_jobs_are_bounded_and_ended_ones_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_file, "MAX_OPEN_JOBS", 2)
    with Journal(tmp_path, SANDBOX) as journal:
        journal.save(some_job("job00001"))
        journal.save(some_job("job00002"))
        with pytest.raises(TooManyJobs, match="2 jobs are open"):
            journal.save(some_job("job00003"))
        journal.save(some_job("job00001", state=State.DONE))
        journal.save(some_job("job00003"))
        journal.save(some_job("job00002", note="it goes on"))


def test_content_is_kept_under_its_hash_and_bounded(tmp_path: Path) -> None:
    with Journal(tmp_path, SANDBOX) as journal:
        assert journal.content(b"\x07" * 20) is None
        journal.save_content(b"\x07" * 20, b"data")
        assert journal.content(b"\x07" * 20) == b"data"
        with pytest.raises(JournalError, match="too many"):
            journal.save_content(b"\x08" * 20, bytes(2_000_000))
