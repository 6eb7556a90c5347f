"""``blockstore-cli``: asks a running blockstored over its HTTP API and prints JSON.

What must stay true: results go to stdout, everything else to stderr with a next step; each way to
fail has an exit code of its own (``resolver/refusals.py``); no traceback reaches a person. Only
the standard library and click are imported, so that the command starts at once.
"""

import base64
import http.client
import json
import sys
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import quote

import click

from resolver import refusals
from resolver.command_line import CONTEXT
from resolver.refusals import Refusal

MAX_REPLY = 2**20
MAX_BYTES = 40_960  # protocol: what a name may hold; the daemon checks it again

_EPILOG = "\b\nExit codes:\n" + "\n".join(
    f"  {code:>2}  {meaning}" for code, meaning in refusals.exit_code_rows()
)


class Daemon:
    """The API of one blockstored."""

    def __init__(self, host: str, port: int, timeout: float) -> None:
        self.host = host
        self.port = port
        self.timeout = timeout

    def get(self, path: str) -> dict[str, Any]:
        """The JSON of a page. Ends the program with a message where there is none."""
        return self._ask("GET", path, None)

    def post(self, path: str, body: bytes) -> dict[str, Any]:
        """The JSON that answers ``body``; as ``get``."""
        return self._ask("POST", path, body)

    def _ask(self, method: str, path: str, body: bytes | None) -> dict[str, Any]:
        where = f"{self.host} port {self.port}"
        connection = http.client.HTTPConnection(self.host, self.port, timeout=self.timeout)
        headers = {} if body is None else {"Content-Type": "application/octet-stream"}
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            status = response.status
            content = response.read(MAX_REPLY + 1)
        except TimeoutError:
            fail(
                refusals.NO_ANSWER,
                f"blockstored at {where} did not answer within {self.timeout:g} seconds",
                "try again, or allow more with --timeout",
            )
        except OSError as error:
            fail(
                refusals.NOT_RUNNING,
                f"blockstored does not run at {where} ({error.strerror or error})",
                "start it with `blockstored start`, or name its place with --host and --port",
            )
        except http.client.HTTPException:
            fail(*_nonsense(where))
        finally:
            connection.close()
        try:
            answer = json.loads(content) if len(content) <= MAX_REPLY else None
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict):
            fail(*_nonsense(where))
        if status != 200:
            _refused(answer, where)
        return answer


def fail(exit_code: int, sentence: str, hint: str) -> NoReturn:
    """Say why and what to do next on stderr, and end."""
    click.echo(f"blockstore-cli: {_printable(sentence)}", err=True)
    click.echo(f"Next: {_printable(hint)}", err=True)
    sys.exit(exit_code)


def _nonsense(where: str) -> tuple[int, str, str]:
    return (
        refusals.FAILED,
        f"what answers at {where} is not blockstored's API",
        "check --host and --port; the API's port is `api_port` in `blockstored config`",
    )


def _refused(answer: dict[str, Any], where: str) -> NoReturn:
    refusal = Refusal.__members__.get(str(answer.get("code", "")).upper())
    if refusal is None or not isinstance(answer.get("error"), str):
        fail(*_nonsense(where))
    fail(refusal.exit_code, answer["error"], str(answer.get("hint") or refusal.hint))


def _printable(text: str) -> str:
    return "".join(sign if sign.isprintable() else "?" for sign in text)


def _print_json(value: object) -> None:
    click.echo(json.dumps(value, indent=4, sort_keys=True))


@click.group(context_settings=CONTEXT, epilog=_EPILOG)
@click.option(
    "--host",
    "--blockstored-server",
    "host",
    default="127.0.0.1",
    show_default=True,
    envvar="BLOCKSTORE_API_HOST",
    show_envvar=True,
    help="Where blockstored runs.",
)
@click.option(
    "--port",
    "--blockstored-port",
    "port",
    type=click.IntRange(1, 65535),
    default=6264,
    show_default=True,
    envvar="BLOCKSTORE_API_PORT",
    show_envvar=True,
    help="The port of its HTTP API.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(0.1, 3600),
    default=15.0,
    show_default=True,
    help="Seconds to wait for an answer.",
)
@click.pass_context
def cli(context: click.Context, host: str, port: int, timeout: float) -> None:
    """Look up names in Blockstore, and hand in their data.

    Talks to a blockstored that is running, on this machine unless told otherwise.
    """
    context.obj = Daemon(host, port, timeout)


@cli.command(context_settings=CONTEXT)
@click.argument("name")
@click.option("--raw", is_flag=True, help="Write the data itself, byte for byte, not JSON.")
@click.pass_obj
def lookup(daemon: Daemon, name: str, raw: bool) -> None:
    """Print the verified data of NAME as JSON.

    NAME is a name on the chain, such as alice.id; a bare label means LABEL.id. Data that is not
    text is printed in base64 under "data_base64".
    """
    answer = daemon.get(f"/v1/lookup/{quote(name, safe='')}")
    if raw:
        encoded = answer.get("data_base64")
        data = base64.b64decode(encoded) if encoded is not None else answer["data"].encode()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    _print_json({key: answer[key] for key in ("data", "data_base64") if key in answer})


@cli.command(context_settings=CONTEXT)
@click.pass_obj
def getinfo(daemon: Daemon) -> None:
    """Print what blockstored knows: heights, consensus hash, node, peers, counts."""
    _print_json(daemon.get("/v1/info"))


@cli.command(context_settings=CONTEXT)
@click.pass_obj
def ping(daemon: Daemon) -> None:
    """Ask whether blockstored is alive."""
    _print_json(daemon.get("/v1/ping"))


@cli.command(context_settings=CONTEXT)
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path, allow_dash=True))
@click.pass_obj
def put(daemon: Daemon, file: Path) -> None:
    """Hand in the data of a name from FILE (- for standard input).

    It is taken when a live name announces its hash on the chain, kept by blockstored and
    published to the network.
    """
    try:
        if str(file) == "-":
            data = sys.stdin.buffer.read(MAX_BYTES + 1)
        else:
            with file.open("rb") as source:
                data = source.read(MAX_BYTES + 1)
    except OSError as error:
        fail(refusals.USAGE, f"{file} cannot be read ({error.strerror})", "check the path")
    if len(data) > MAX_BYTES:
        refusal = Refusal.TOO_LARGE
        fail(refusal.exit_code, f"{file} has more than {MAX_BYTES} bytes", refusal.hint)
    _print_json(daemon.post("/v1/data", data))


def main() -> None:
    """The program."""
    try:
        cli(prog_name="blockstore-cli")
    except Exception as error:  # noqa: BLE001 - a bug of ours; still one line for the person
        fail(refusals.FAILED, f"{type(error).__name__}: {error}", "please report this")


if __name__ == "__main__":
    main()
