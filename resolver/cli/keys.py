"""``blockstore-cli keys``: a file of fresh private keys, and what its addresses are.

What must stay true: a key is written to the file and nowhere else; a passphrase is typed or read
from a file, and never an argument.
"""

from collections.abc import Callable
from pathlib import Path

import click

from resolver import refusals
from resolver.cli.asking import Daemon, command, fail
from resolver.cli.signing import ring_of, told
from resolver.cli.waiting import confirmed, read_psbt
from resolver.process.places import NETWORKS
from resolver.terminal import say
from resolver.words import printable

MAX_NEW = 100


def of_keys(function: Callable[..., None]) -> Callable[..., None]:
    """The options of every command that reads keys without a daemon."""
    passphrase_file = click.option(
        "--passphrase-file",
        type=click.Path(dir_okay=False, path_type=Path),
        help="Read the passphrase of the keys here instead of asking for it.",
    )
    network = click.option(
        "--network", type=click.Choice(NETWORKS), default="mainnet", show_default=True
    )
    return passphrase_file(network(function))


@command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--new",
    "count",
    type=click.IntRange(1, MAX_NEW),
    help="Make the file, with so many fresh keys in it.",
)
@click.option("--encrypt", is_flag=True, help="Encrypt it with a passphrase.")
@of_keys
def keys(
    daemon: Daemon,
    file: Path,
    count: int | None,
    encrypt: bool,
    passphrase_file: Path | None,
    network: str,
) -> None:
    """Show the addresses of the private keys in FILE; make it first with --new.

    For the setting `key_file`, or for --key-file here. Needs no daemon.
    """
    from indexer.bitcoin.transactions import script_address
    from indexer.networks import NETWORKS
    from indexer.wallet.key_storage import make_keys, read_passphrase
    from indexer.wallet.signers import SignerError

    chain = NETWORKS[network]
    if encrypt and count is None:
        fail(refusals.USAGE, "--encrypt is for a new file", "add --new COUNT")
    try:
        passphrase = read_passphrase(passphrase_file) if encrypt else None
        if encrypt and passphrase_file is None and read_passphrase(None, "Again: ") != passphrase:
            fail(refusals.USAGE, "the two passphrases differ; nothing was written", "type it again")
        if count is None:
            ring = ring_of(file, network, passphrase_file)
        else:
            ring = make_keys(file, chain, count, passphrase)
    except SignerError as error:
        fail(
            refusals.USAGE, str(error), "mend that; `blockstore-cli keys --help` says what it takes"
        )
    addresses = [script_address(script, chain) for script in ring.scripts]
    daemon.show({"file": str(file), "network": network, "addresses": addresses})


@command()
@click.argument("psbt_file", metavar="PSBT", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--key-file",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    help="The private keys that sign.",
)
@of_keys
@click.option("--yes", is_flag=True, help="Agree to what it pays beforehand.")
def sign(
    daemon: Daemon,
    psbt_file: Path,
    key_file: Path,
    passphrase_file: Path | None,
    network: str,
    yes: bool,
) -> None:
    """Show what the PSBT in a file pays, and sign it in place. Needs no daemon and no network.

    For a machine that is never online: `continue ID PSBT` hands it in where blockstored runs.
    """
    from indexer.networks import NETWORKS
    from indexer.wallet.keys import CannotSign
    from indexer.wallet.psbt import BadPsbt, sign_psbt, unsigned_of

    psbt = read_psbt(psbt_file)
    try:
        for line in told(unsigned_of(psbt), NETWORKS[network]):
            say(printable(line), err=True)
        if not yes and not confirmed("Sign it?"):
            fail(refusals.NOT_AGREED, "not agreed; nothing was signed", "throw the PSBT away")
        signed = sign_psbt(psbt, ring_of(key_file, network, passphrase_file))
        psbt_file.write_text(signed + "\n", "ascii")
    except (BadPsbt, CannotSign) as error:
        fail(refusals.USAGE, str(error), "nothing was signed")
    except OSError as error:
        fail(refusals.USAGE, f"{psbt_file} cannot be written ({error.strerror})", "check the path")
    daemon.show({"file": str(psbt_file), "psbt": signed})


COMMANDS = (keys, sign)
