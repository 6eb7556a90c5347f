"""What was begun, as JSON for people and programs: its schema, and what it is filled from.

What must stay true: no raw transaction and no key is in it.
"""

from indexer.bitcoin.transactions import hash_hex
from indexer.networks import Network
from indexer.registrar.planning.wishes import wish_json
from indexer.registrar.work.jobs import Job
from resolver.api import schemas as s
from resolver.api.orders import MAX_PAID, WISH
from resolver.api.request import Json

_SATOSHIS: s.Schema = {"type": "integer", "minimum": 0, "maximum": MAX_PAID}
JOB: s.Schema = s.shape(
    {"psbt": s.TEXT},
    id=s.TEXT,
    wish=WISH,
    subject=s.TEXT,
    state={
        "enum": [
            *("running", "waiting-for-signature", "needs-consent"),
            *("done", "failed", "abandoned"),
        ]
    },
    note={"type": "string", "description": "What is waited for, or what became of it."},
    signer=s.TEXT,
    created=s.COUNT,
    steps=s.listed(
        s.shape(
            step=s.TEXT,
            transactions=s.listed(
                s.shape(
                    txid=s.nullable(s.hexadecimal(32)),
                    fee=_SATOSHIS,
                    price=_SATOSHIS,
                    made_at=s.COUNT,
                    cancels=s.TRUTH,
                    refusal=s.nullable(s.TEXT),
                )
            ),
        )
    ),
    history=s.listed(s.shape(time=s.COUNT, says=s.TEXT)),
)


def job_json(job: Job, network: Network) -> Json:
    """A job for people and programs: no raw transaction, and its PSBT where one is wanted."""
    waiting = [a.psbt for a in job.attempts() if a.raw is None and a.psbt is not None]
    psbt = {"psbt": waiting[-1]} if waiting and job.state.is_open else {}
    return {
        "id": job.id,
        "wish": wish_json(job.wish, network),
        "subject": job.subject,
        "state": job.state.value,
        "note": job.note,
        "signer": job.signer,
        "created": job.created,
        "steps": [
            {
                "step": step.kind.value,
                "transactions": [
                    {
                        "txid": None if attempt.txid is None else hash_hex(attempt.txid),
                        "fee": attempt.unsigned.fee,
                        "price": attempt.price,
                        "made_at": attempt.made_at,
                        "cancels": attempt.cancels,
                        "refusal": attempt.refusal,
                    }
                    for attempt in step.tried
                ],
            }
            for step in job.steps
        ],
        "history": [{"time": event.time, "says": event.says} for event in job.history],
        **psbt,
    }
