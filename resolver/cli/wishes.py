"""The commands of ``blockstore-cli`` that pay for a name: own it, fill it, keep it, give it away.

What must stay true: data is checked, and what changes is shown, before anything is paid.
"""

from pathlib import Path
from typing import Any

import click

from resolver import refusals
from resolver.cli.agreeing import paying, wishing, with_data
from resolver.cli.asking import Daemon, command, fail
from resolver.cli.completing import with_name
from resolver.cli.names import data_in, page_path, read_data
from resolver.refusals import Refusal
from resolver.terminal import say
from resolver.words import printable


@command()
@with_name
@with_data
@click.option("--owner", metavar="ADDRESS", help="Who shall own it; by default a fresh address.")
@click.option("--max-price", type=click.IntRange(0), metavar="SATOSHIS", help="Not for more.")
@paying
def register(
    daemon: Daemon, name: str, owner: str | None, max_price: int | None, **options: Any
) -> None:
    """Register NAME, with the data in FILE (- for standard input) or without.

    Two transactions: a preorder, which pays the price and hides the name, and the registration.
    blockstored goes on by itself, through restarts of its own too; `pending` tells how far it is.
    """
    wish = {"wish": "register", "name": name, "owner": owner, "max_price": max_price}
    wishing(daemon, wish, options)


@command()
@with_name
@with_data
@click.option(
    "--record", "records", multiple=True, metavar="LINE", help="Set one: 'www A 192.0.2.1'."
)
@click.option(
    "--delete", "deletions", multiple=True, metavar="OWNER [TYPE]", help="Delete: 'www A'."
)
@paying
def update(
    daemon: Daemon,
    name: str,
    file: Path | None,
    records: tuple[str, ...],
    deletions: tuple[str, ...],
    **options: Any,
) -> None:
    """Give NAME other data: that in FILE, or its own with some records set and deleted.

    What changes is shown, line by line, before anything is paid.
    """
    from zonefiles.text.edits import EditError, difference, edit_zonefile

    name = daemon.whole_name(name)
    if (file is None) == (not records and not deletions):
        fail(refusals.USAGE, "an update takes a FILE, or --record and --delete", "give one of them")
    old = _present_data(daemon, name)
    if file is None:
        try:
            data = edit_zonefile(old, name, records=records, deletions=deletions)
        except EditError as error:
            hint = f"`blockstore-cli lookup --raw {name}` prints what it holds"
            fail(Refusal.BAD_DATA.exit_code, f"{error}; nothing was paid", hint)
    else:
        data = read_data(file)
    if data == old:
        fail(
            refusals.USAGE,
            f"{name} holds this very data already; nothing was paid",
            f"give other data; `blockstore-cli lookup --raw {name}` prints what it holds",
        )
    for line in difference(old, data, name):
        say(printable(line), err=True)
    wishing(daemon, {"wish": "update", "name": name}, options, data)


def _present_data(daemon: Daemon, name: str) -> bytes | None:
    """What ``name`` holds now; None where it holds nothing."""
    status, answer = daemon.try_asking("GET", page_path("/v1/lookup/{}", name), None)
    if status == 200:
        return data_in(answer, "data")
    if answer.get("code") == Refusal.NO_DATA.name.lower():
        return None
    daemon.refused({**answer, "error": f"{answer.get('error')}; nothing was paid"})


@command()
@with_name
@click.argument("address")
@click.option(
    "--keep-data/--drop-data", default=True, show_default=True, help="Whether its data goes along."
)
@paying
def transfer(daemon: Daemon, name: str, address: str, keep_data: bool, **options: Any) -> None:
    """Hand NAME over to ADDRESS. Only the new owner can give it back."""
    wish = {"wish": "transfer", "name": name, "recipient": address, "keep_data": keep_data}
    wishing(daemon, wish, options)


@command()
@with_name
@with_data
@click.option("--max-price", type=click.IntRange(0), metavar="SATOSHIS", help="Not for more.")
@paying
def renew(daemon: Daemon, name: str, max_price: int | None, **options: Any) -> None:
    """Keep NAME for another lifetime, counted from now; its data may change on the way."""
    wishing(daemon, {"wish": "renew", "name": name, "max_price": max_price}, options)


@command()
@with_name
@paying
def revoke(daemon: Daemon, name: str, **options: Any) -> None:
    """Make NAME hold nothing, for everybody, until it expires. This cannot be undone."""
    wishing(daemon, {"wish": "revoke", "name": name}, options)


COMMANDS = (register, update, transfer, renew, revoke)
