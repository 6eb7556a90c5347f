"""Publishing and resolving, until they work."""

from indexer.registrar.planning.wishes import UpdateName
from indexer.registrar.work.jobs import State
from tests.indexer.registrar.fakes import DIGEST, OWNER, World, made_world

BEGINS = made_world


def test_publishing_and_resolving_are_tried_until_they_work(world: World) -> None:
    answers = iter([False, False, True])
    world._verify = lambda name, digest: next(answers)
    copies = iter([0, 2])
    publish = world._publish
    world._publish = lambda digest, content: min(next(copies), publish(digest, content) * 2)
    job_id = world.begin(UpdateName("alice.id", DIGEST), OWNER)
    world.run()
    job = world.job(job_id)
    assert job.state is State.DONE
    notes = [event.says for event in job.history]
    assert any("no other node has taken the data yet" in note for note in notes)
    assert sum("does not resolve to what was written yet" in note for note in notes) == 1
