"""How ``blockstore-cli`` stays with what was begun: showing it, signing it, until it is done.

What must stay true: leaving stops nothing (the daemon goes on by itself), and says so; keys that
are read here sign here and go nowhere else, and sign no more than was agreed to.
"""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from resolver import refusals
from resolver.cli.asking import Daemon, Json, Lines, fail, read_file
from resolver.cli.names import page_path
from resolver.cli.signing import Budget, ring_of, told
from resolver.terminal import say
from resolver.words import printable

if TYPE_CHECKING:
    from indexer.wallet.keys import KeyRing

POLL = 1.0  # seconds
MAX_PSBT_BYTES = 2**20
MAX_ADDRESSES = 16  # of one order
ENDED = ("done", "failed", "abandoned")


class Waiting:
    """What a person wants of a job beyond that it is begun."""

    def __init__(
        self, daemon: Daemon, psbt_file: Path | None, key_file: Path | None, wait: bool
    ) -> None:
        self._daemon = daemon
        self._psbt_file = psbt_file
        self._key_file = key_file
        self._wait = wait or key_file is not None
        self._ring: KeyRing | None = None
        self.agreed = 0
        """Satoshis that the keys here may lose without another question."""
        self._budget: Budget | None = None
        if key_file is not None and psbt_file is not None:
            fail(refusals.USAGE, "--key-file signs here, and --psbt elsewhere", "give one of them")

    @property
    def signs_elsewhere(self) -> bool:
        """Whether the daemon's own wallet is left out."""
        return self._psbt_file is not None or self._key_file is not None

    def addresses(self) -> list[str]:
        """Those of the key file, the first of which pays unless told otherwise."""
        from indexer.bitcoin.transactions import script_address
        from indexer.networks import NETWORKS

        if self._key_file is None:
            return []
        network = NETWORKS[self._network()]
        found = (script_address(script, network) for script in self._keys().scripts)
        return [address for address in found if address is not None][:MAX_ADDRESSES]

    def follow(self, job: Json) -> None:
        """Show ``job`` and, where that was asked for, stay with it until it ended."""
        said = ""
        try:
            while job["state"] not in ENDED:
                if job["state"] == "waiting-for-signature" and self._hand_over(job):
                    job = self._ask(job)
                    continue
                if not self._wait or job["state"] == "needs-consent":
                    break
                if job["note"] != said:
                    said = job["note"]
                    say(printable(f"{job['id']}: {said}"), err=True)
                time.sleep(POLL)
                job = self._ask(job)
        except KeyboardInterrupt:
            self._left(job)
        show_job(self._daemon, job)
        if job["state"] == "abandoned":  # by somebody else, meanwhile
            sys.exit(refusals.NOT_DONE)

    def _ask(self, job: Json) -> Json:
        path = page_path("/v1/registrar/jobs/{}", str(job["id"]))
        try:
            answer: Json = self._daemon.get(path, secret=True)
        except SystemExit:
            say(f"{job['id']} is written down; blockstored goes on with it.", err=True)
            raise
        return answer

    def _left(self, job: Json) -> NoReturn:
        say(err=True)
        fail(
            refusals.LEFT,
            f"{job['id']} is not done yet; blockstored goes on with it by itself",
            f"`blockstore-cli resume {job['id']} --wait` stays with it; `blockstore-cli pending`"
            " tells how far it is",
        )

    def _hand_over(self, job: Json) -> bool:
        """Have the waiting transaction signed; whether it was signed here and now."""
        psbt = str(job["psbt"])
        if self._key_file is not None:
            from indexer.wallet.keys import CannotSign
            from indexer.wallet.psbt import BadPsbt, sign_psbt

            try:
                self._agree(psbt, str(job["id"]))
                signed = sign_psbt(psbt, self._keys())
            except (BadPsbt, CannotSign) as error:
                fail(refusals.FAILED, f"{error}; nothing more was paid", "check the key file")
            self._daemon.order(
                page_path("/v1/registrar/jobs/{}/continue", str(job["id"])), {"psbt": signed}
            )
            return True
        if self._psbt_file is not None:
            try:
                self._psbt_file.write_text(psbt + "\n", "ascii")
            except OSError as error:
                fail(
                    refusals.USAGE,
                    f"{self._psbt_file} cannot be written ({error.strerror});"
                    f" {job['id']} waits, and nothing more was paid",
                    f"`blockstore-cli resume {job['id']}` shows the PSBT",
                )
            say(
                f"Sign {self._psbt_file}, then:"
                f" blockstore-cli continue {job['id']} {self._psbt_file}",
                err=True,
            )
        self._wait = False
        return False

    def _agree(self, psbt: str, job_id: str) -> None:
        """Return where the PSBT takes no more from the keys than was agreed to, or is agreed to
        now; else end the program. Raises BadPsbt."""
        from indexer.networks import NETWORKS
        from indexer.wallet.psbt import unsigned_of

        budget = self._budget = self._budget or Budget(self.agreed)
        unsigned, scripts = unsigned_of(psbt), self._keys().scripts
        total = budget.with_this(unsigned, scripts)
        if total > budget.agreed:
            for line in told(unsigned, NETWORKS[self._network()]):
                say(printable(line), err=True)
            say(
                f"That makes {total} satoshis which leave these keys; {budget.agreed} were agreed"
                " to in this command.",
                err=True,
            )
            if not is_somebody_here() or not confirmed("Sign it?"):
                fail(
                    refusals.NOT_AGREED,
                    f"{job_id} waits for this signature; it was not given, and nothing more was"
                    " paid",
                    f"`blockstore-cli resume {job_id} --key-file FILE` on a terminal asks again,"
                    f" `blockstore-cli abandon {job_id}` gives it up",
                )
            budget.agreed = total
        budget.signed(unsigned, scripts)

    def _network(self) -> str:
        network: str = self._daemon.get("/v1/info")["network"]
        return network

    def _keys(self) -> "KeyRing":
        if self._ring is None:
            assert self._key_file is not None
            self._ring = ring_of(self._key_file, self._network())
        return self._ring


def is_somebody_here() -> bool:
    """Whether a question is likely to be answered."""
    return sys.stdin.isatty()


def confirmed(question: str) -> bool:
    """Whether the person says yes; Ctrl-C and the end of what is typed say no."""
    try:
        return click.confirm(question, default=False, err=True)
    except click.Abort:
        say(err=True)
        return False


def read_psbt(file: Path) -> str:
    """The PSBT in ``file``, in base64 whether it was so there or in bytes."""
    import base64

    content = read_file(file, MAX_PSBT_BYTES)
    if content.startswith(b"psbt\xff"):
        return base64.b64encode(content).decode("ascii")
    return content.decode("ascii", "replace").strip()


def show_job(daemon: Daemon, job: Json) -> None:
    """Print how a job is, and end with its exit code where it did not go well."""
    daemon.show(job, _job_lines)
    if job["state"] in ("failed", "needs-consent"):
        sys.exit(refusals.NOT_DONE)


def _job_lines(job: Json) -> Lines:
    yield f"{job['id']}: {job['wish']['wish']} {job['subject']}: {job['state']}. {job['note']}"
    for step in job["steps"]:
        for sent in step["transactions"]:
            price = f", price {sent['price']}" if sent["price"] else ""
            back = " (takes back the one before)" if sent["cancels"] else ""
            refusal = f"; the node said: {sent['refusal']}" if sent["refusal"] else ""
            yield f"  {step['step']}: {sent['txid'] or 'not signed yet'}{back}"
            yield f"      fee {sent['fee']}{price}{refusal}"
    if "psbt" in job:
        yield f"  to be signed: {job['psbt']}"
