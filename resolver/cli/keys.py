"""``blockstore-cli keys``: a file of fresh private keys, and what its addresses are.

What must stay true: a key is written to the file and nowhere else; a passphrase is typed or read
from a file, and never an argument.
"""

from pathlib import Path

import click

from resolver import refusals
from resolver.cli.asking import Daemon, command, fail
from resolver.cli.signing import told
from resolver.cli.waiting import confirmed, read_psbt
from resolver.process.places import NETWORKS
from resolver.terminal import say
from resolver.words import printable

MAX_NEW = 100


@command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--new",
    "count",
    type=click.IntRange(1, MAX_NEW),
    help="Make the file, with so many fresh keys in it.",
)
@click.option("--encrypt", is_flag=True, help="Encrypt it with a passphrase.")
@click.option(
    "--passphrase-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Read the passphrase here instead of asking for it.",
)
@click.option(
    "--network",
    type=click.Choice(NETWORKS),
    default="mainnet",
    show_default=True,
)
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
    from indexer.wallet.key_storage import is_encrypted, load_keys, make_keys, read_passphrase
    from indexer.wallet.signers import SignerError

    chain = NETWORKS[network]
    try:
        passphrase = None
        if encrypt or (count is None and is_encrypted(file)):
            passphrase = read_passphrase(passphrase_file)
        if encrypt and passphrase_file is None and read_passphrase(None, "Again: ") != passphrase:
            fail(refusals.USAGE, "the two passphrases differ; nothing was written", "type it again")
        if count is None:
            ring = load_keys(file, chain, passphrase)
        else:
            ring = make_keys(file, chain, count, passphrase)
    except SignerError as error:
        fail(refusals.USAGE, str(error), "see `blockstore-cli keys --help`")
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
@click.option(
    "--passphrase-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Read the passphrase of the keys here instead of asking for it.",
)
@click.option(
    "--network",
    type=click.Choice(NETWORKS),
    default="mainnet",
    show_default=True,
)
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
    from indexer.wallet.key_storage import is_encrypted, load_keys, read_passphrase
    from indexer.wallet.keys import CannotSign
    from indexer.wallet.psbt import BadPsbt, sign_psbt, unsigned_of
    from indexer.wallet.signers import SignerError

    psbt = read_psbt(psbt_file)
    try:
        for line in told(unsigned_of(psbt), NETWORKS[network]):
            say(printable(line), err=True)
        if not yes and not confirmed("Sign it?"):
            fail(refusals.NOT_AGREED, "not agreed; nothing was signed", "throw the PSBT away")
        passphrase = read_passphrase(passphrase_file) if is_encrypted(key_file) else None
        signed = sign_psbt(psbt, load_keys(key_file, NETWORKS[network], passphrase))
        psbt_file.write_text(signed + "\n", "ascii")
    except (SignerError, BadPsbt, CannotSign) as error:
        fail(refusals.USAGE, str(error), "nothing was signed")
    except OSError as error:
        fail(refusals.USAGE, f"{psbt_file} cannot be written ({error.strerror})", "check the path")
    daemon.show({"file": str(psbt_file), "psbt": signed})


COMMANDS = (keys, sign)
