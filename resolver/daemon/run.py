"""One service for the length of one process: pid file, log, reactor, signals, readiness.

What must stay true: the reactor is chosen (asyncio, on uvloop where there is one) before anything
imports it; the pid file is held from before the databases open until after they are closed; the
first SIGTERM or SIGINT stops in order, the second ends at once; SIGHUP opens the log anew.
"""

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Protocol

from resolver.daemon.interpreter import keep_memory, settle
from resolver.daemon.logs import ReopeningFile, bridge_twisted, open_log
from resolver.process.pidfile import AlreadyRunning, PidFile
from resolver.settings.table import Settings
from resolver.terminal import say
from resolver.words import PID_NAME, VERSION, unwritable

if TYPE_CHECKING:
    from resolver.daemon.progress_bar import ProgressBar

log = logging.getLogger("blockstore.daemon")

OK, FAILED, UNUSABLE = 0, 1, 2


class Startable(Protocol):
    """What can be run."""

    async def start(self) -> None: ...
    async def stop(self) -> None: ...


def install_reactor() -> Any:
    """Choose the asyncio reactor on uvloop (plain asyncio on Windows). Call before all else."""
    from twisted.internet import asyncioreactor

    if sys.platform == "win32":
        loop: asyncio.AbstractEventLoop = asyncio.SelectorEventLoop()
    else:
        import uvloop

        loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    asyncioreactor.install(loop)
    from twisted.internet import reactor

    return reactor


def run_service(settings: Settings, *, ready_fd: int | None = None, quiet: bool = False) -> int:
    """Run the service of ``settings`` until a signal; the exit code.

    While the index catches up a terminal is shown a bar, unless it shall be ``quiet``: then only
    warnings and errors are written there.
    """

    bar: ProgressBar | None = None
    if ready_fd is None and not quiet and sys.stderr.isatty():
        from resolver.daemon.progress_bar import bar_on

        bar = bar_on(sys.stderr, os.environ)

    def build() -> Startable:
        from resolver.service import Service

        return Service(settings)

    def places(service: Any) -> str:
        told = service.addresses()
        doors = ", ".join(f"{door['host']} port {door['port']}" for door in told["dns"])
        return f"DNS on {doors}; API on {told['api']['host']} port {told['api']['port']}."

    async def draw(service: Any) -> None:
        if bar is not None:
            index = service.index
            await bar.follow(lambda: index.follower.status, index.network.first_block)

    return run(
        settings,
        build,
        describe=places,
        ready_fd=ready_fd,
        on_ready=draw,
        stderr_level=logging.WARNING if quiet else logging.NOTSET,
        stderr=None if bar is None else bar.log_handler,
    )


def run(
    settings: Settings,
    build: Callable[[], Startable],
    *,
    describe: Callable[[Any], str] = lambda service: "",
    ready_fd: int | None = None,
    on_ready: Callable[[Any], Awaitable[None]] | None = None,
    stderr_level: int = logging.NOTSET,
    stderr: logging.Handler | None = None,
) -> int:
    """Run what ``build`` makes until a signal; the exit code.

    ``build`` is called once the reactor is installed. ``on_ready`` runs beside the service and is
    cancelled at its end. ``ready_fd`` is a pipe that hears "ready ..." or "failed ..."; without
    one the log is also written to stderr, by ``stderr`` if given, from ``stderr_level`` on.
    """
    keep_memory()
    report = _Report(ready_fd, settings)
    terminal = None
    if ready_fd is None:
        terminal = stderr or logging.StreamHandler(sys.stderr)
        terminal.setLevel(stderr_level)
    pid_file = PidFile(settings.working_dir / PID_NAME)
    try:
        settings.working_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        log_file = open_log(settings, terminal)
        pid_file.acquire()
    except AlreadyRunning as error:
        return report.failed(f"{error}; stop it with `blockstored stop`")
    except OSError as error:
        return report.failed(unwritable(error, settings.working_dir, settings.log_file))
    try:
        return _run_reactor(build, report, log_file, describe, on_ready)
    except Exception as error:
        log.exception("blockstored failed.")
        sentence = f"{type(error).__name__}: {error}; the log {log_file.baseFilename} says more"
        return report.failed(sentence, FAILED)
    finally:
        pid_file.release()
        logging.shutdown()


def _run_reactor(
    build: Callable[[], Startable],
    report: "_Report",
    log_file: ReopeningFile,
    describe: Callable[[Any], str],
    on_ready: Callable[[Any], Awaitable[None]] | None,
) -> int:
    reactor = install_reactor()
    bridge_twisted()
    exit_code = OK
    failure: Exception | None = None
    from resolver.service import StartError

    async def live() -> None:
        nonlocal exit_code, failure
        stopping = asyncio.Event()
        _watch_signals(stopping, log_file)
        log.info("blockstored %s starts as pid %d.", VERSION, os.getpid())
        service: Startable | None = None
        beside: asyncio.Future[None] | None = None
        asked = asyncio.ensure_future(stopping.wait())
        try:
            service = build()
            starting = asyncio.ensure_future(service.start())
            await asyncio.wait({starting, asked}, return_when=asyncio.FIRST_COMPLETED)
            if not starting.done():
                starting.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await starting
                exit_code = report.failed("stopped by a signal while it started", FAILED)
                return
            starting.result()
            settle()
            text = describe(service)
            log.info("Ready. %s", text)
            report.ready(text)
            if on_ready is not None:
                beside = asyncio.ensure_future(on_ready(service))
                await asyncio.wait({beside, asked}, return_when=asyncio.FIRST_COMPLETED)
                if beside.done():
                    beside.result()
            await asked
            log.info("Stopping.")
        except StartError as error:
            # To the file alone: at the terminal the report is the one line.
            log_file.handle(
                log.makeRecord(log.name, logging.ERROR, "", 0, "Cannot start: %s", (error,), None)
            )
            exit_code = report.failed(str(error))
        except Exception as error:  # noqa: BLE001 - raised again when the reactor has ended
            failure = error
        finally:
            asked.cancel()
            if beside is not None and not beside.done():
                beside.cancel()
                await asyncio.wait({beside})
            if service is not None:
                await service.stop()
            log.info("Stopped.")
            reactor.stop()

    reactor.callWhenRunning(lambda: asyncio.ensure_future(live()))
    reactor.run(installSignalHandlers=False)
    if failure is not None:
        raise failure
    return exit_code


def _watch_signals(stopping: asyncio.Event, log_file: ReopeningFile) -> None:
    loop = asyncio.get_running_loop()

    def end() -> None:
        if stopping.is_set():
            # Asked twice: at once. Databases stand a kill, so this loses nothing.
            os._exit(128 + signal.SIGTERM)
        stopping.set()

    def reopen() -> None:
        log_file.reopen()
        log.info("The log was opened anew.")

    try:
        loop.add_signal_handler(signal.SIGTERM, end)
        loop.add_signal_handler(signal.SIGINT, end)
        loop.add_signal_handler(signal.SIGHUP, reopen)
    except (NotImplementedError, AttributeError):  # Windows
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(end))


class _Report:
    """Where readiness is told: a pipe to the parent, or stderr."""

    def __init__(self, fd: int | None, settings: Settings) -> None:
        self._fd = fd
        self._where = settings.whereabouts

    def ready(self, text: str) -> None:
        self._tell(f"ready {text}")

    def failed(self, sentence: str, exit_code: int = UNUSABLE) -> int:
        sentence = self._where.completed(" ".join(sentence.split()), os.environ)
        if self._fd is None:
            say(f"blockstored: {sentence}", err=True)
        else:
            self._tell(f"failed {sentence}")
        return exit_code

    def _tell(self, text: str) -> None:
        if self._fd is not None:
            with contextlib.suppress(OSError):  # the parent may have gone
                os.write(self._fd, text.encode("utf-8") + b"\n")
                os.close(self._fd)
            self._fd = None
