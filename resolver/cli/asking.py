"""What every command of ``blockstore-cli`` shares: asking the daemon, printing, and failing.

What must stay true: results go to stdout, everything else to stderr with a next step; each way to
fail has an exit code of its own (``resolver/refusals.py``); what a server says is printed without
its control characters; nothing is shown to a daemon that would let somebody else pay in its
user's place: what pays goes over the socket of one's own daemon.
"""

import http
import http.client
import json
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import click

from resolver import refusals
from resolver.cli.which_daemon import Door, NotToBeAsked
from resolver.process.own_socket import Busy
from resolver.refusals import Refusal
from resolver.terminal import say
from resolver.words import CONTEXT, printable

MAX_REPLY = 4 * 2**20
ASK_FIRST = (
    "see `blockstore-cli pending` for whether it was begun (after `pay`: the wallet), before you"
    " try again"
)

ZONES: Mapping[str, str] = {"bs": "id"}
"""What everybody serves who sets nothing else."""
Json = dict[str, Any]
Lines = Iterable[str]


@dataclass
class Daemon:
    """The API of one blockstored, and how what it says is printed."""

    door: Door
    timeout: float
    human: bool | None = None
    """Text for people rather than JSON; None: where stdout is a terminal."""

    @property
    def place(self) -> str:
        """The daemon's place in words."""
        return self.door.place

    def whole_name(self, name: str) -> str:
        """The chain name that is meant, by the zones that the daemon serves; ends the program
        where none is."""
        zones = ZONES
        if "." in name.removesuffix("."):  # else none matters
            status, info = self.try_asking("GET", "/v1/info", None)
            served = info.get("zones") if status == http.HTTPStatus.OK else None
            zones = served if isinstance(served, dict) else ZONES
        return chain_name_of(name, zones)

    def get(self, path: str, *, secret: bool = False) -> Any:
        """The JSON of a page. Ends the program with a message where there is none.

        ``secret``: the page is only for the daemon's own user.
        """
        return self.ask("GET", path, None, secret=secret)

    def post(self, path: str, body: bytes) -> Any:
        """The JSON that answers ``body``, which is data and no wish; as ``get``."""
        return self.ask("POST", path, body)

    def order(self, path: str, wish: Mapping[str, Any]) -> Any:
        """The JSON that answers ``wish``, which may pay; as ``get``."""
        return self.ask("POST", path, json.dumps(wish).encode(), secret=True)

    def ask(self, method: str, path: str, body: bytes | None, *, secret: bool = False) -> Any:
        """The JSON of the reply where its status is 200; else the program ends."""
        status, answer = self.try_asking(method, path, body, secret=secret)
        if status != 200:
            self.refused(answer)
        return answer

    def try_asking(
        self, method: str, path: str, body: bytes | None, *, secret: bool = False
    ) -> tuple[int, Any]:
        """(status, JSON) of the reply. Ends the program where nobody answers, or with nonsense."""
        kind = "application/json" if secret else "application/octet-stream"
        headers = {} if body is None else {"Content-Type": kind}
        orders = method == "POST" and secret
        connection: http.client.HTTPConnection | None = None
        try:
            connection = self.door.connected(self.timeout, secret=secret)
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            status = response.status
            content = response.read(MAX_REPLY + 1)
        except NotToBeAsked as error:
            fail(error.exit_code, error.sentence, error.hint)
        except Busy:
            self._busy()
        except TimeoutError:
            fail(
                refusals.NO_ANSWER,
                f"blockstored at {self.place} did not answer within {self.timeout:g} seconds",
                ASK_FIRST if orders else "try again, or allow more with --timeout",
            )
        except OSError as error:
            if orders:
                fail(
                    refusals.NO_ANSWER,
                    f"blockstored at {self.place} broke off before it had answered",
                    ASK_FIRST,
                )
            if isinstance(error, ConnectionResetError | BrokenPipeError):
                self._busy()
            fail(
                refusals.NOT_RUNNING,
                f"blockstored at {self.place} cannot be asked ({error.strerror or error})",
                "look at its log, and at what `blockstored status` says",
            )
        except http.client.HTTPException:
            self.nonsense()
        finally:
            if connection is not None:
                connection.close()
        try:
            answer = json.loads(content) if len(content) <= MAX_REPLY else None
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict) and not (status == 200 and _is_listing(answer)):
            self.nonsense()
        return status, answer

    def _busy(self) -> NoReturn:
        """End the program: it takes a connection and answers nothing, as it does with one more
        than it may have."""
        fail(
            Refusal.BUSY.exit_code,
            f"blockstored at {self.place} is busy: it has as many connections as it may",
            Refusal.BUSY.hint,
        )

    def nonsense(self) -> NoReturn:
        """End the program: what answered is not blockstored."""
        fail(
            refusals.FAILED,
            f"what answers at {self.place} is not blockstored's API",
            "check --host and --port; the API's port is `api_port` in `blockstored config`",
        )

    def refused(self, answer: Any) -> NoReturn:
        """End the program with what the daemon said of a request that it refused."""
        said = answer if isinstance(answer, dict) else {}
        refusal = Refusal.__members__.get(str(said.get("code", "")).upper())
        if refusal is None or not isinstance(said.get("error"), str):
            self.nonsense()
        fail(refusal.exit_code, said["error"], str(said.get("hint") or refusal.hint))

    def show(self, value: Any, human: Callable[[Any], Lines] | None = None) -> None:
        """Print ``value``: as JSON, or as the lines that ``human`` makes of it."""
        for_people = sys.stdout.isatty() if self.human is None else self.human
        if not for_people:
            say(json.dumps(value, indent=4, sort_keys=True))
            return
        for line in (human or described)(value):
            say(printable(line))


def _is_listing(answer: Any) -> bool:
    """Whether it is a page of names, or of operations."""
    return isinstance(answer, list) and all(isinstance(one, str | dict) for one in answer)


def fail(exit_code: int, sentence: str, hint: str) -> NoReturn:
    """Say why and what to do next on stderr, and end; commands are those for the daemon asked."""
    context = click.get_current_context(silent=True)
    daemon = context.find_object(Daemon) if context is not None else None
    for line in (f"blockstore-cli: {sentence}", f"Next: {hint}"):
        say(printable(daemon.door.completed(line) if daemon else line), err=True)
    sys.exit(exit_code)


def read_file(
    file: Path, at_most: int, too_large: int = refusals.USAGE, hint: str = "check the path"
) -> bytes:
    """The bytes of ``file`` (-: standard input). Ends the program where they cannot be read; with
    ``too_large`` as its exit code, and the ``hint``, where they are more than ``at_most``."""
    try:
        with sys.stdin.buffer if str(file) == "-" else file.open("rb") as source:
            content = source.read(at_most + 1)
    except OSError as error:
        fail(refusals.USAGE, f"{file} cannot be read ({error.strerror})", "check the path")
    if len(content) > at_most:
        fail(too_large, f"{file} has more than {at_most} bytes", hint)
    return content


def chain_name_of(name: str, zones: Mapping[str, str]) -> str:
    """The chain name that is meant where ``zones`` are served; ends the program where none is."""
    from resolver.api.chain_names import chain_name
    from resolver.refusals import Refused

    try:
        return chain_name(name, zones)
    except Refused as refused:
        fail(refused.refusal.exit_code, refused.sentence, refused.hint)


def described(value: Any, indent: str = "") -> Lines:
    """Any JSON as lines for people: a member a line, what is nested indented."""
    if isinstance(value, dict):
        width = max((len(str(key)) for key in value), default=0)
        for key, member in value.items():
            label = str(key).replace("_", " ")
            if isinstance(member, dict | list) and member:
                yield f"{indent}{label}:"
                yield from described(member, indent + "    ")
            else:
                yield f"{indent}{label + ':':<{width + 2}}{_scalar(member)}"
    elif isinstance(value, list):
        for member in value:
            if isinstance(member, dict | list):
                first, *rest = list(described(member, "")) or [""]
                yield f"{indent}- {first}"
                yield from (f"{indent}  {line}" for line in rest)
            else:
                yield f"{indent}{_scalar(member)}"
    else:
        yield f"{indent}{_scalar(value)}"


def _scalar(value: Any) -> str:
    if value is None or value in ({}, []):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def table(header: tuple[str, ...], rows: Iterable[tuple[Any, ...]]) -> Lines:
    """Rows under their headings, each column as wide as its widest entry."""
    texts = [header, *(tuple(_scalar(entry) for entry in row) for row in rows)]
    widths = [max(len(row[column]) for row in texts) for column in range(len(header))]
    for row in texts:
        yield "  ".join(f"{text:<{w}}" for text, w in zip(row, widths, strict=True)).rstrip()


def _print_so(context: click.Context, _option: click.Parameter, value: bool | None) -> None:
    if value is not None:
        context.obj.human = value


class PrintingCommand(click.Command):
    """One that may be told how to print behind its own name, as well as before it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs["context_settings"] = CONTEXT | (kwargs.get("context_settings") or {})
        super().__init__(*args, **kwargs)
        self.params.append(
            click.Option(
                ["--human/--json"],
                default=None,
                expose_value=False,
                callback=_print_so,
                help="Text for people, or JSON; by itself text on a terminal.",
            )
        )


def command(name: str | None = None) -> Callable[[Callable[..., None]], click.Command]:
    """Makes a function such a command; its first argument is the ``Daemon`` that is asked."""

    def made(function: Callable[..., None]) -> click.Command:
        return click.command(name, cls=PrintingCommand)(click.pass_obj(function))

    return made


class TimeSpan(click.ParamType[float]):
    """A span of time such as 60d, 2w or 12h, as seconds; a bare number is days."""

    name = "span"
    _SECONDS: ClassVar = {"h": 3600.0, "d": 86_400.0, "w": 604_800.0, "y": 31_556_952.0}

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Seconds; ends with a usage error where ``value`` is no span."""
        text = str(value)
        number, unit = (text[:-1], text[-1]) if text[-1:] in self._SECONDS else (text, "d")
        if not (number.isascii() and number.isdecimal() and 0 < len(number) <= 5):
            self.fail(f"{text!r} is no span of time; write 60d, 2w or 12h", param, ctx)
        return int(number) * self._SECONDS[unit]
