"""The log: one line an event, no secrets, no flood."""

import logging
from pathlib import Path

import pytest

from resolver.daemon.logs import REPEAT_WINDOW, REPEATS, LineFormatter, RepeatLimit, open_log
from resolver.settings.settings import load


def record(message: str, *args: object, level: int = logging.WARNING) -> logging.LogRecord:
    return logging.LogRecord("blockstore.test", level, "file.py", 1, message, args, None)


def test_credentials_and_known_secrets_are_cut_out():
    line = LineFormatter(["hunter2"]).format(
        record("asking http://ada:pass@node:8332 failed: %s", "hunter2 is wrong")
    )
    assert "pass" not in line
    assert "hunter2" not in line
    assert line.endswith("asking http://******@node:8332 failed: ****** is wrong")


def test_a_short_secret_is_not_told_by_the_words_that_lack_it():
    formatter = LineFormatter(["p"])
    record = logging.LogRecord("a", logging.INFO, "", 0, "stopped; user:p, password p", (), None)
    assert formatter.format(record).endswith("a: stopped; user:******, password ******")


def test_a_secret_in_a_traceback_is_cut_out_too():
    try:
        raise ValueError("hunter2")
    except ValueError as error:
        failed = record("it failed")
        failed.exc_info = (ValueError, error, error.__traceback__)
    assert "Traceback" in LineFormatter(["hunter2"]).format(failed)
    assert "hunter2" not in LineFormatter(["hunter2"]).format(failed)
    assert "Traceback" not in LineFormatter(tracebacks=False).format(failed)
    assert "Traceback" in LineFormatter().format(failed)  # the terminal's copy is its own


def test_a_line_break_from_outside_begins_no_line():
    line = LineFormatter().format(record("name %s", "a\n2026-01-01 ERROR forged\x1b[2J"))
    assert len(line.splitlines()) == 1
    assert "\\n" in line
    assert "\x1b" not in line


def test_a_repeated_warning_is_ten_lines_and_a_count():
    now = [0.0]
    limit = RepeatLimit(clock=lambda: now[0])
    passed = [limit.filter(record("peer %s lied", n)) for n in range(1000)]
    assert sum(passed) == REPEATS
    assert limit.filter(record("another kind"))
    assert limit.filter(record("peer %s lied", 1, level=logging.INFO))
    now[0] += REPEAT_WINDOW
    late = record("peer %s lied", 7)
    assert limit.filter(late)
    assert late.getMessage() == "peer 7 lied (990 more like this were left out)"


@pytest.fixture
def root_logger():
    root = logging.getLogger()
    kept, level, raising = list(root.handlers), root.level, logging.raiseExceptions
    levels = {name: logging.getLogger(name).level for name in ("kademlia", "rpcudp", "BitcoinRPC")}
    yield root
    for handler in list(root.handlers):
        root.removeHandler(handler)
        handler.close()
    for handler in kept:
        root.addHandler(handler)
    root.setLevel(level)
    logging.raiseExceptions = raising
    logging.captureWarnings(False)
    for name, old in levels.items():
        logging.getLogger(name).setLevel(old)


def test_the_file_is_rotated_and_reopened(tmp_path: Path, root_logger):
    flags = {"working_dir": tmp_path, "log_max_bytes": "2000", "log_backups": "2"}
    file = open_log(load({}, {}, flags))
    log = logging.getLogger("blockstore.test")
    for number in range(200):
        log.info("line %d", number)
    kept = sorted(path.name for path in tmp_path.iterdir())
    assert kept == ["blockstored.log", "blockstored.log.1", "blockstored.log.2"]
    assert all(path.stat().st_size <= 2000 for path in tmp_path.iterdir())

    (tmp_path / "blockstored.log").rename(tmp_path / "moved")
    file.reopen()
    log.info("after the move")
    assert "after the move" in (tmp_path / "blockstored.log").read_text()
    file.close()


def test_the_chatter_of_libraries_stays_out(tmp_path: Path, root_logger):
    file = open_log(load({}, {}, {"working_dir": tmp_path, "log_level": "debug"}))
    logging.getLogger("rpcudp.protocol").warning("Did not receive reply")
    logging.getLogger("BitcoinRPC").debug("password")
    logging.getLogger("blockstore.x").debug("ours")
    assert "ours" in (tmp_path / "blockstored.log").read_text()
    assert len((tmp_path / "blockstored.log").read_text().splitlines()) == 1
    file.close()
