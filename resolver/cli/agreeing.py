"""A wish of the chain, from its plan to its doing: shown, agreed to, begun and followed.

What must stay true: nothing is paid before its plan was shown and agreed to; the daemon does what
was agreed, at the price that was shown or less; no key and no passphrase is ever an argument.
"""

import base64
import http
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from resolver import refusals
from resolver.cli.asking import ASK_FIRST, Daemon, Json, fail
from resolver.cli.names import read_data
from resolver.cli.waiting import Waiting, confirmed, is_somebody_here
from resolver.terminal import say
from resolver.words import printable

Options = Mapping[str, Any]
TRIES = 3
"""How often a plan is made for whoever agrees beforehand."""


def paying(function: Callable[..., None]) -> Callable[..., None]:
    """The options of every command that pays."""
    for option in reversed(
        (
            click.option("--yes", is_flag=True, help="Agree to the plan beforehand."),
            click.option("--dry-run", is_flag=True, help="Show the plan, and do nothing."),
            click.option(
                "--fee-rate",
                type=click.FloatRange(0.1, 10_000),
                metavar="SAT/VB",
                help="Of the miner's fee; by default what the node estimates.",
            ),
            click.option(
                "--payer",
                metavar="ADDRESS",
                help="The legacy address that pays and sends; by default one of the wallet.",
            ),
            click.option(
                "--psbt",
                "psbt_file",
                type=click.Path(dir_okay=False, path_type=Path),
                help="Write each transaction here for somebody else to sign (see `continue`).",
            ),
            click.option(
                "--key-file",
                type=click.Path(dir_okay=False, path_type=Path),
                help="Sign here, with these keys; blockstored does not see them. Implies --wait.",
            ),
            click.option("--wait", is_flag=True, help="Stay until it is done."),
        )
    ):
        function = option(function)
    return function


def with_data(function: Callable[..., None]) -> Callable[..., None]:
    """The options of every command that takes the data of a name, which ``wishing`` reads."""
    raw = click.option(
        "--raw", is_flag=True, help="Take data that is neither a zone file nor JSON."
    )
    file = click.argument(
        "file",
        type=click.Path(dir_okay=False, path_type=Path, allow_dash=True),
        required=False,
    )
    return file(raw(function))


def wishing(
    daemon: Daemon,
    wish: Mapping[str, Any],
    options: Options,
    data: bytes | None = None,
) -> None:
    """Show the plan of ``wish``, ask, have it begun, and stay as long as was asked for.

    ``data``, or else what is in the file of ``with_data``, is what the name shall hold.
    """
    waiting = Waiting(daemon, options["psbt_file"], options["key_file"], options["wait"])
    body: Json = {"wish": {key: value for key, value in wish.items() if value is not None}}
    if data is None and options.get("file") is not None:
        data = read_data(options["file"])
    if data == b"":
        fail(refusals.USAGE, "the data is empty", "leave it away to go without data")
    if data is not None:
        body["data_base64"] = base64.b64encode(data).decode("ascii")
        if options["raw"]:
            body["raw"] = True
    if options["fee_rate"] is not None:
        body["fee_rate"] = options["fee_rate"]
    if options["payer"] is not None:
        body["payer"] = options["payer"]
    if waiting.signs_elsewhere:
        body["signer"] = "offline"
        addresses = waiting.addresses()
        if addresses:
            body.setdefault("payer", addresses[0])
            body["addresses"] = addresses
    plan = daemon.order("/v1/registrar/plan", body)
    if options["dry_run"]:
        daemon.show(plan, lambda said: said["text"])
        return
    agree(plan, options["yes"])
    try:
        job, waiting.agreed = _begun(daemon, body, plan, options["yes"])
    except KeyboardInterrupt:
        say(err=True)
        fail(refusals.LEFT, "left before blockstored had answered", ASK_FIRST)
    waiting.follow(job)


def _begun(daemon: Daemon, body: Json, plan: Json, yes: bool) -> tuple[Json, int]:
    """The job of an order whose plan was agreed to, and the total of that plan.

    Other wishes of the same moment may have taken the coins that the plan counted on. Whoever
    agrees beforehand is shown the new plan, and agrees to that.
    """
    for tries_left in reversed(range(TRIES if yes else 1)):
        agreed: int = plan["plan"]["total"]
        order = json.dumps({**body, "max_total": agreed}).encode()
        status, answer = daemon.try_asking("POST", "/v1/registrar/jobs", order, secret=True)
        if status == http.HTTPStatus.OK:
            return answer, agreed
        if not tries_left or status != http.HTTPStatus.CONFLICT:
            break
        plan = daemon.order("/v1/registrar/plan", body)
        if plan["plan"]["total"] <= agreed:
            break  # that was not the reason
        agree(plan, yes)
    daemon.refused(answer)


def agree(plan: Json, yes: bool) -> None:
    """Show the plan on stderr; return if the person agrees, end the program if not."""
    for line in plan["text"]:
        say(printable(line), err=True)
    if yes:
        return
    if not is_somebody_here():
        fail(
            refusals.USAGE,
            "nobody is here to agree to this plan, and nothing was paid",
            "look at it with --dry-run, and agree with --yes",
        )
    if not confirmed("Do it?"):
        fail(refusals.NOT_AGREED, "not agreed; nothing was paid", "run it again when you like")
