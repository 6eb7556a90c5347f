"""The commands of ``blockstore-cli`` that pay: what is wished of the chain, planned and then done.

What must stay true: nothing is paid before its plan was shown and agreed to; the daemon does what
was agreed, at the price that was shown or less; no key and no passphrase is ever an argument.
"""

import base64
import http
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from resolver import refusals
from resolver.cli.asking import ASK_FIRST, Daemon, Json, Lines, PrintingCommand, fail, table
from resolver.cli.names import page_path, read_data
from resolver.cli.waiting import Waiting, confirmed, is_somebody_here, show_job
from resolver.refusals import Refusal
from resolver.terminal import say
from resolver.words import printable

Options = Mapping[str, Any]
TRIES = 3
"""How often a plan is made for whoever agrees beforehand."""
JOBS_A_PAGE = 100  # of the API


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
    """The options of every command that takes the data of a name."""
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
    daemon: Daemon, wish: Mapping[str, Any], options: Options, data: bytes | None = None
) -> None:
    """Show the plan of ``wish``, ask, have it begun, and stay as long as was asked for."""
    waiting = Waiting(daemon, options["psbt_file"], options["key_file"], options["wait"])
    body: Json = {"wish": {key: value for key, value in wish.items() if value is not None}}
    if data is not None:
        body["data_base64"] = base64.b64encode(data).decode("ascii")
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


def checked_data(file: Path | None, name: str, raw: bool) -> bytes | None:
    """The data in ``file``, checked to be what a name can hold; ends the program if not."""
    if file is None:
        return None
    data = read_data(file)
    check_data(data, name, raw, str(file))
    return data


def check_data(data: bytes, name: str, raw: bool, where: str) -> None:
    """Ends the program where ``data`` is neither a zone file of ``name`` nor JSON."""
    from zonefiles.text.zonefile import ZonefileError, parse_zonefile

    if not data:
        fail(refusals.USAGE, f"{where} is empty", "leave it away to register without data")
    if raw:
        return
    try:
        zonefile = parse_zonefile(data, whole_name(name), strict=True)
    except ZonefileError as error:
        try:
            json.loads(data)
        except (ValueError, RecursionError):
            fail(
                Refusal.BAD_DATA.exit_code,
                f"{where} is neither JSON nor a zone file of {name} ({error}); nothing was paid",
                "mend it, or give --raw if it is meant so",
            )
        return
    if zonefile.dropped:
        say(
            f"blockstore-cli: {zonefile.dropped} records of {where} lie outside {name}, or cannot"
            " be served, and are as if they were not there.",
            err=True,
        )


def whole_name(name: str) -> str:
    """The chain name that is meant; ends the program where none is."""
    from resolver.api.value import chain_name
    from resolver.refusals import Refused

    try:
        return chain_name(name)
    except Refused as refused:
        fail(refused.refusal.exit_code, refused.sentence, refused.hint)


@click.command(cls=PrintingCommand)
@click.argument("name")
@with_data
@click.option("--owner", metavar="ADDRESS", help="Who shall own it; by default a fresh address.")
@click.option("--max-price", type=click.IntRange(0), metavar="SATOSHIS", help="Not for more.")
@paying
@click.pass_obj
def register(
    daemon: Daemon,
    name: str,
    file: Path | None,
    raw: bool,
    owner: str | None,
    max_price: int | None,
    **options: Any,
) -> None:
    """Register NAME, with the data in FILE (- for standard input) or without.

    Two transactions: a preorder, which pays the price and hides the name, and the registration.
    blockstored goes on by itself, through restarts of its own too; `pending` tells how far it is.
    """
    data = checked_data(file, name, raw)
    wish = {"wish": "register", "name": whole_name(name), "owner": owner, "max_price": max_price}
    wishing(daemon, wish, options, data)


@click.command(cls=PrintingCommand)
@click.argument("name")
@with_data
@click.option(
    "--record", "records", multiple=True, metavar="LINE", help="Set one: 'www A 192.0.2.1'."
)
@click.option(
    "--delete", "deletions", multiple=True, metavar="OWNER [TYPE]", help="Delete: 'www A'."
)
@paying
@click.pass_obj
def update(
    daemon: Daemon,
    name: str,
    file: Path | None,
    raw: bool,
    records: tuple[str, ...],
    deletions: tuple[str, ...],
    **options: Any,
) -> None:
    """Give NAME other data: that in FILE, or its own with some records set and deleted.

    What changes is shown, line by line, before anything is paid.
    """
    from zonefiles.text.edits import EditError, difference, edit_zonefile

    name = whole_name(name)
    if (file is None) == (not records and not deletions):
        fail(refusals.USAGE, "an update takes a FILE, or --record and --delete", "give one of them")
    old = _present_data(daemon, name)
    if file is None:
        try:
            data = edit_zonefile(old, name, records=records, deletions=deletions)
        except EditError as error:
            fail(Refusal.BAD_DATA.exit_code, f"{error}; nothing was paid", "see `lookup --raw`")
        check_data(data, name, raw, "the edited zone file")
    else:
        data = read_data(file)
        check_data(data, name, raw, str(file))
    if data == old:
        fail(refusals.USAGE, f"{name} holds this very data already; nothing was paid", "be glad")
    for line in difference(old, data, name):
        say(printable(line), err=True)
    wishing(daemon, {"wish": "update", "name": name}, options, data)


def _present_data(daemon: Daemon, name: str) -> bytes | None:
    """What ``name`` holds now; None where it holds nothing."""
    status, answer = daemon.try_asking("GET", page_path("/v1/lookup/{}", name), None)
    if status == 200:
        encoded = answer.get("data_base64")
        return base64.b64decode(encoded) if encoded else str(answer["data"]).encode()
    if answer.get("code") == Refusal.NO_DATA.name.lower():
        return None
    daemon.refused({**answer, "error": f"{answer.get('error')}; nothing was paid"})


@click.command(cls=PrintingCommand)
@click.argument("name")
@click.argument("address")
@click.option(
    "--keep-data/--drop-data", default=True, show_default=True, help="Whether its data goes along."
)
@paying
@click.pass_obj
def transfer(daemon: Daemon, name: str, address: str, keep_data: bool, **options: Any) -> None:
    """Hand NAME over to ADDRESS. Only the new owner can give it back."""
    wish = {
        "wish": "transfer",
        "name": whole_name(name),
        "recipient": address,
        "keep_data": keep_data,
    }
    wishing(daemon, wish, options)


@click.command(cls=PrintingCommand)
@click.argument("name")
@with_data
@click.option("--max-price", type=click.IntRange(0), metavar="SATOSHIS", help="Not for more.")
@paying
@click.pass_obj
def renew(
    daemon: Daemon,
    name: str,
    file: Path | None,
    raw: bool,
    max_price: int | None,
    **options: Any,
) -> None:
    """Keep NAME for another lifetime, counted from now; its data may change on the way."""
    data = checked_data(file, name, raw)
    wish = {"wish": "renew", "name": whole_name(name), "max_price": max_price}
    wishing(daemon, wish, options, data)


@click.command(cls=PrintingCommand)
@click.argument("name")
@paying
@click.pass_obj
def revoke(daemon: Daemon, name: str, **options: Any) -> None:
    """Make NAME hold nothing, for everybody, until it expires. This cannot be undone."""
    wishing(daemon, {"wish": "revoke", "name": whole_name(name)}, options)


@click.command("import", cls=PrintingCommand)
@click.argument("name")
@click.argument("address")
@with_data
@paying
@click.pass_obj
def import_(
    daemon: Daemon, name: str, address: str, file: Path | None, raw: bool, **options: Any
) -> None:
    """Give NAME, in a namespace of yours that is not open yet, to ADDRESS, with FILE as data."""
    data = checked_data(file, name, raw)
    if data is None:
        fail(refusals.USAGE, "a name is imported with its data", "give the FILE")
    wish = {"wish": "import", "name": whole_name(name), "recipient": address}
    wishing(daemon, wish, options, data)


@click.command("namespace-preorder", cls=PrintingCommand)
@click.argument("namespace")
@click.argument("revealer", metavar="ADDRESS")
@click.option("--max-price", type=click.IntRange(0), metavar="SATOSHIS", help="Not for more.")
@paying
@click.pass_obj
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


@click.command("namespace-reveal", cls=PrintingCommand)
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
@click.pass_obj
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
    exponents = [part.strip() for part in buckets.split(",")]
    if not all(part.isdecimal() and len(part) <= 2 for part in exponents):
        fail(refusals.USAGE, f"{buckets!r} are not sixteen numbers", "separate them by commas")
    wish = {
        "wish": "namespace-reveal",
        "namespace_id": namespace,
        "revealer": revealer,
        "buckets": [int(part) for part in exponents],
        "version": version_,
        **{term: options.pop(term) for term in terms},
    }
    wishing(daemon, wish, options)


@click.command("namespace-ready", cls=PrintingCommand)
@click.argument("namespace")
@paying
@click.pass_obj
def namespace_ready(daemon: Daemon, namespace: str, **options: Any) -> None:
    """Open NAMESPACE to everybody, for ever."""
    wishing(daemon, {"wish": "namespace-ready", "namespace_id": namespace}, options)


@click.command(cls=PrintingCommand)
@click.argument("message_hash", metavar="HASH")
@paying
@click.pass_obj
def announce(daemon: Daemon, message_hash: str, **options: Any) -> None:
    """Announce HASH (40 hex digits), the hash of a message, to the operators of nodes."""
    wishing(daemon, {"wish": "announce", "message_hash": message_hash}, options)


# --- what was begun


@click.command(cls=PrintingCommand)
@click.option("--all", "everything", is_flag=True, help="Also what is done, failed or abandoned.")
@click.pass_obj
def pending(daemon: Daemon, everything: bool) -> None:
    """List what was begun and is not done, and what each waits for."""
    found: list[Json] = []
    while True:
        page = len(found) // JOBS_A_PAGE
        path = page_path("/v1/registrar/jobs", all=everything, page=page or None)
        jobs = daemon.get(path, secret=True)["jobs"]
        found += jobs
        if len(jobs) < JOBS_A_PAGE:
            break
    daemon.show({"jobs": found}, _pending_lines)


def _pending_lines(answer: Any) -> Lines:
    jobs: Sequence[Any] = answer["jobs"]
    if not jobs:
        return ["Nothing is pending."]
    rows = [(job["id"], job["wish"]["wish"], job["subject"], job["state"]) for job in jobs]
    lines = list(table(("ID", "WISH", "OF", "STATE"), rows))
    for job in jobs:
        lines.append(f"{job['id']}: {job['note']}")
    return lines


@click.command(cls=PrintingCommand)
@click.argument("job", metavar="ID")
@click.option("--consent", is_flag=True, help="Agree to pay anew where a payment was lost.")
@click.option("--key-file", type=click.Path(dir_okay=False, path_type=Path), help="Sign here.")
@click.option("--wait", is_flag=True, help="Stay until it is done.")
@click.pass_obj
def resume(daemon: Daemon, job: str, consent: bool, key_file: Path | None, wait: bool) -> None:
    """Go on with what was begun, now instead of at the next block, and show how it is."""
    deed = "consent" if consent else "resume"
    answer = daemon.order(page_path("/v1/registrar/jobs/{}/{}", job, deed), {})
    Waiting(daemon, None, key_file, wait).follow(answer)


@click.command("continue", cls=PrintingCommand)
@click.argument("job", metavar="ID")
@click.argument("psbt_file", metavar="PSBT", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--wait", is_flag=True, help="Stay until it is done.")
@click.pass_obj
def continue_(daemon: Daemon, job: str, psbt_file: Path, wait: bool) -> None:
    """Hand in the signed PSBT that ID waits for."""
    from resolver.cli.waiting import read_psbt

    body = {"psbt": read_psbt(psbt_file)}
    answer = daemon.order(page_path("/v1/registrar/jobs/{}/continue", job), body)
    Waiting(daemon, psbt_file, None, wait).follow(answer)


@click.command(cls=PrintingCommand)
@click.argument("job", metavar="ID")
@click.pass_obj
def abandon(daemon: Daemon, job: str) -> None:
    """Give up what was begun. What is paid stays paid; what is not yet mined is taken back."""
    show_job(daemon, daemon.order(page_path("/v1/registrar/jobs/{}/abandon", job), {}))


COMMANDS: tuple[tuple[click.Command, str], ...] = (
    (register, "register"),
    (update, "update"),
    (transfer, "transfer"),
    (renew, "renew"),
    (revoke, "revoke"),
    (import_, "import"),
    (namespace_preorder, "namespace-preorder"),
    (namespace_reveal, "namespace-reveal"),
    (namespace_ready, "namespace-ready"),
    (announce, "announce"),
    (pending, "pending"),
    (resume, "resume"),
    (continue_, "continue"),
    (abandon, "abandon"),
)
