"""The commands of ``blockstore-cli`` that open a namespace, in their order, and that announce.

What must stay true: as of every command that pays (``agreeing``).
"""

import re
from typing import Any

import click

from resolver import refusals
from resolver.cli.agreeing import paying, wishing, with_data
from resolver.cli.asking import Daemon, command, fail
from resolver.cli.completing import with_name
from resolver.terminal import VALUE_HASH


@command("import")
@with_name
@click.argument("address")
@with_data
@paying
def import_(daemon: Daemon, name: str, address: str, **options: Any) -> None:
    """Give NAME, in a namespace of yours that is not open yet, to ADDRESS, with FILE as data."""
    if options["file"] is None:
        fail(refusals.USAGE, "a name is imported with its data", "give the FILE")
    wishing(daemon, {"wish": "import", "name": name, "recipient": address}, options)


@command()
@click.argument("namespace")
@click.argument("revealer", metavar="ADDRESS")
@click.option("--max-price", type=click.IntRange(0), metavar="SATOSHIS", help="Not for more.")
@paying
def namespace_preorder(
    daemon: Daemon, namespace: str, revealer: str, max_price: int | None, **options: Any
) -> None:
    """Pay for NAMESPACE, which ADDRESS will fill and open. Its name stays hidden until revealed."""
    wish = {
        "wish": "namespace-preorder",
        "namespace_id": namespace,
        "revealer": revealer,
        "max_price": max_price,
    }
    wishing(daemon, wish, options)


@command()
@click.argument("namespace")
@click.argument("revealer", metavar="ADDRESS")
@click.option(
    "--lifetime",
    type=click.IntRange(1, 2**32 - 1),
    default=52_595,
    show_default=True,
    help="Blocks that a name lives; 4294967295: for ever.",
)
@click.option("--coeff", type=click.IntRange(0, 255), default=250, show_default=True)
@click.option("--base", type=click.IntRange(0, 255), default=4, show_default=True)
@click.option(
    "--buckets",
    default="6,5,4,3,2,1,0,0,0,0,0,0,0,0,0,0",
    show_default=True,
    help="Sixteen exponents, of names of 1 to 16 and more characters.",
)
@click.option("--nonalpha-discount", type=click.IntRange(1, 15), default=10, show_default=True)
@click.option("--no-vowel-discount", type=click.IntRange(1, 15), default=10, show_default=True)
@click.option(
    "--version",
    "version_",
    type=click.IntRange(1, 2),
    default=1,
    show_default=True,
    help="1: prices are burned; 2: they are paid to you for a year.",
)
@paying
def namespace_reveal(
    daemon: Daemon,
    namespace: str,
    revealer: str,
    buckets: str,
    version_: int,
    **options: Any,
) -> None:
    """Tell everybody of NAMESPACE, which was preordered, and what its names cost.

    A name costs coeff * base ^ (bucket of its length) * 100 satoshis, divided by a discount, and a
    tenth of that by today's rules.
    """
    terms = ("lifetime", "coeff", "base", "nonalpha_discount", "no_vowel_discount")
    exponents = re.fullmatch(r"\s*([0-9]{1,2}\s*,\s*){15}[0-9]{1,2}\s*", buckets)
    if exponents is None:
        fail(refusals.USAGE, f"{buckets!r} are not sixteen numbers", "separate them by commas")
    wish = {
        "wish": "namespace-reveal",
        "namespace_id": namespace,
        "revealer": revealer,
        "buckets": list(map(int, buckets.split(","))),
        "version": version_,
        **{term: options.pop(term) for term in terms},
    }
    wishing(daemon, wish, options)


@command()
@click.argument("namespace")
@paying
def namespace_ready(daemon: Daemon, namespace: str, **options: Any) -> None:
    """Open NAMESPACE to everybody, for ever."""
    wishing(daemon, {"wish": "namespace-ready", "namespace_id": namespace}, options)


@command()
@click.argument("message_hash", metavar="HASH", type=VALUE_HASH)
@paying
def announce(daemon: Daemon, message_hash: str, **options: Any) -> None:
    """Announce HASH (40 hex digits), the hash of a message, to the operators of nodes."""
    wishing(daemon, {"wish": "announce", "message_hash": message_hash}, options)


COMMANDS = (import_, namespace_preorder, namespace_reveal, namespace_ready, announce)
