"""The commands of ``blockstore-cli`` about what was begun: a list, going on, giving up.

What must stay true: nothing is begun here, and nothing is paid anew without ``--consent``.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from resolver import refusals
from resolver.cli.asking import Daemon, Json, Lines, command, fail, table
from resolver.cli.completing import begun
from resolver.cli.names import page_path
from resolver.cli.waiting import Waiting, show_job
from resolver.refusals import Refusal

JOBS_A_PAGE = 100  # of the API


@command()
@click.option("--all", "everything", is_flag=True, help="Also what is done, failed or abandoned.")
def pending(daemon: Daemon, everything: bool) -> None:
    """List what was begun and is not done, and what each waits for."""
    daemon.show({"jobs": _jobs(daemon, everything)}, _pending_lines)


def _jobs(daemon: Daemon, everything: bool = False) -> list[Json]:
    found: list[Json] = []
    while True:
        page = len(found) // JOBS_A_PAGE
        path = page_path("/v1/registrar/jobs", all=everything, page=page or None)
        jobs = daemon.get(path, secret=True)["jobs"]
        found += jobs
        if len(jobs) < JOBS_A_PAGE:
            return found


def _pending_lines(answer: Any) -> Lines:
    jobs: Sequence[Any] = answer["jobs"]
    if not jobs:
        return ["Nothing is pending."]
    rows = [(job["id"], job["wish"]["wish"], job["subject"], job["state"]) for job in jobs]
    lines = list(table(("ID", "WISH", "OF", "STATE"), rows))
    for job in jobs:
        lines.append(f"{job['id']}: {job['note']}")
    return lines


def _id_of(daemon: Daemon, text: str) -> str:
    """The id of the job that is meant by its id, or by the name or namespace that it is of."""
    if re.fullmatch("[0-9a-f]{10}", text):
        return text
    subjects = (text, daemon.whole_name(text))
    found = [job["id"] for job in _jobs(daemon) if job["subject"] in subjects]
    if not found:
        refusal = Refusal.NO_SUCH_JOB
        fail(refusal.exit_code, f"nothing is under way for {subjects[-1]}", refusal.hint)
    if len(found) > 1:
        fail(refusals.USAGE, f"{text} is of the jobs {', '.join(found)}", "give one of these ids")
    return found[0]


@command()
@click.argument("job", metavar="ID|NAME", shell_complete=begun)
@click.option("--consent", is_flag=True, help="Agree to pay anew where a payment was lost.")
@click.option("--key-file", type=click.Path(dir_okay=False, path_type=Path), help="Sign here.")
@click.option("--wait", is_flag=True, help="Stay until it is done.")
def resume(daemon: Daemon, job: str, consent: bool, key_file: Path | None, wait: bool) -> None:
    """Go on with what was begun, now instead of at the next block, and show how it is."""
    deed = "consent" if consent else "resume"
    answer = daemon.order(page_path("/v1/registrar/jobs/{}/{}", _id_of(daemon, job), deed), {})
    Waiting(daemon, None, key_file, wait).follow(answer)


@command("continue")
@click.argument("job", metavar="ID|NAME", shell_complete=begun)
@click.argument("psbt_file", metavar="PSBT", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--wait", is_flag=True, help="Stay until it is done.")
def continue_(daemon: Daemon, job: str, psbt_file: Path, wait: bool) -> None:
    """Hand in the signed PSBT that is waited for."""
    from resolver.cli.waiting import read_psbt

    body = {"psbt": read_psbt(psbt_file)}
    answer = daemon.order(page_path("/v1/registrar/jobs/{}/continue", _id_of(daemon, job)), body)
    Waiting(daemon, psbt_file, None, wait).follow(answer)


@command()
@click.argument("job", metavar="ID|NAME", shell_complete=begun)
def abandon(daemon: Daemon, job: str) -> None:
    """Give up what was begun. What is paid stays paid; what is not yet mined is taken back."""
    show_job(
        daemon, daemon.order(page_path("/v1/registrar/jobs/{}/abandon", _id_of(daemon, job)), {})
    )


COMMANDS = (pending, resume, continue_, abandon)
