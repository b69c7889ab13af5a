"""The connection's own reads as evidence: one item before the switch, its whole jobs after it."""

from __future__ import annotations

from shlex import quote

from keyturn.consumers import sampling
from keyturn.definitions.patterns import fits
from keyturn.executor.context import Context
from keyturn.executor.moves import Done, Move, Wait
from keyturn.executor.retries import soon
from keyturn.model.credential import State, Version
from keyturn.model.ids import new_id
from keyturn.model.job import Cause, Job, JobResult, JobState, Level, Reading
from keyturn.model.plan import Kind, Step
from keyturn.model.run import LineKind, RunState
from keyturn.planner.shapes import ONE_SLOT
from keyturn.storage import jobs

LOOK_AGAIN_S = 600.0
TRIES = 3  # of a read without a clear answer, where nothing is kept alive by waiting for one


def run_jobs(ctx: Context, step: Step) -> Move:
    """Runs the jobs of the plan once with the new one; their results are the evidence of the run.

    While one of them definitely cannot read, the old one is not ended: the run is blocked and says which job and why,
    and looks again by and by. What is paused or removed meanwhile is not waited for. Where there is no old one to keep
    it is owed instead. After a crash a job that has read already is not run again.
    """
    new = ctx.new
    if new is None or new.state is not State.CURRENT:
        return Done()
    wanted = _wanted(ctx, step)
    has_read = {
        facts.get("id")
        for facts, _ in ctx.lines(step, LineKind.OBSERVED)
        if facts.get("state") == JobState.OK.value and facts.get("version") == new.id
    }
    left = [job for job in wanted if job.id not in has_read]
    if not left:
        return Done()
    ctx.commit()  # the switch must not wait for a slow vendor
    bad = [(job, found) for job in left if (found := _run(ctx, step, job, new)).state is not JobState.OK]
    if not bad or any(key == "contain" for key, _, _, _ in ctx.said):
        return Done()
    return _not_read(ctx, step, new, bad)


def _wanted(ctx: Context, step: Step) -> list[Job]:
    """The jobs that the plan names, as far as they are still there and not paused."""
    named = set(step.params.get("jobs", ()))
    known = ctx.hub.store.read(lambda tx: jobs.of_connection(tx, ctx.connection.id))
    return [job for job in known if job.id in named and job.paused_at is None]


def _run(ctx: Context, step: Step, job: Job, new: Version) -> Reading:
    """One job, its line and its result; durable before the next one begins, which renews the lease as well."""
    began = ctx.hub.clock()
    found = sampling.read(ctx.can.reader, ctx.access(new), ctx.material(new), job.what, job.most)
    ctx.line(
        step,
        LineKind.OBSERVED,
        what="job",
        level=Level.JOB.value,
        job=job.name,
        id=job.id,
        version=new.id,
        **found.as_facts(),
    )
    result = JobResult(
        new_id("jbr"), job.id, ctx.connection.id, new.id, ctx.run.id, Cause.ROTATION, found, began
    )
    ctx.later(lambda tx: jobs.note(tx, result, ctx.hub.clock()))
    ctx.commit()
    return found


def _not_read(ctx: Context, step: Step, new: Version, bad: list[tuple[Job, Reading]]) -> Move:
    now, holds = ctx.hub.clock(), bool(step.params.get("holds"))
    refused = [(job, found) for job, found in bad if found.state is JobState.FAILED]
    job, found = (refused or bad)[0]
    said = f"job {job.name} {'cannot read' if refused else 'got no clear answer'} with the new credential"
    why = f"{said} ({found.detail or found.code})"
    settling = _settling(ctx, new, why)
    if refused and settling:
        return settling
    if not refused and (holds or ctx.attempts < TRIES):
        return soon(ctx, why, max(each.wait_s for _, each in bad))
    if not holds:
        for each, seen in bad:
            ctx.owe(
                "job_failed",
                f"job {each.name} could not read with the new credential ({seen.detail or seen.code})",
                None,
                job=each.name,
            )
        return Done()
    until = now + LOOK_AGAIN_S * ctx.hub.patience
    return Wait(
        until,
        f"{why}; the old one is kept. `keyturn job pause {quote(job.name)}` goes on without this job",
        RunState.BLOCKED,
    )


# -- before the switch -----------------------------------------------------------------------------------------------------


def shape_of(ctx: Context, version: Version) -> str:
    """`fits`, or the names of the parts that have not the shape their row asks for. Recorded; the vendor decides."""
    material = ctx.material(version)
    own = [f for f in ctx.row.method.fields if (f.secret or f.part) and f.group != "admin"]
    odd = [
        field.name
        for field in own
        if (field.name in material and not fits(field.pattern, material[field.name]))
        or (field.required and field.default is None and not material.get(field.name))
    ]
    return "odd: " + ", ".join(odd) if odd else "fits"


def first_reads(ctx: Context, step: Step, new: Version) -> str | Wait:
    """One item of what each job reads, before anybody is switched. Why the new one is not good enough; empty when it
    is, or when that cannot be told: without an old one that reads the same, the fault may be the job's own."""
    planned = next((each for each in ctx.run.plan.steps if each.kind is Kind.JOBS), None)
    if planned is None or ctx.can.reader is None:
        return ""
    for job in _wanted(ctx, planned):
        found = _look(ctx, step, job, new, "new")
        if found.state is not JobState.FAILED or ctx.card.strategy in ONE_SLOT or ctx.old is None:
            continue
        if ctx.old.method not in {"", ctx.row.method.name}:
            continue
        if _look(ctx, step, job, ctx.old, "old").state is JobState.OK:
            why = f"job {job.name} reads with the old credential and not with the new one ({found.detail or found.code})"
            return _settling(ctx, new, why) or why
    return ""


def _settling(ctx: Context, new: Version, why: str) -> Wait | None:
    """A vendor may take a while to let a new one in everywhere."""
    now, settle_s = ctx.hub.clock(), ctx.policy.settle_create(ctx.card)
    settled = new.changed_at + settle_s
    return Wait(min(settled, now + max(0.05, settle_s / 8)), why) if now < settled else None


def _look(ctx: Context, step: Step, job: Job, version: Version, which: str) -> Reading:
    found = sampling.read(ctx.can.reader, ctx.access(version), ctx.material(version), job.what, 1)
    ctx.line(
        step,
        LineKind.OBSERVED,
        what="read",
        level=Level.READ.value,
        job=job.name,
        which=which,
        version=version.id,
        **found.as_facts(),
    )
    ctx.commit()  # the lease is renewed: several slow reads may take longer than it lasts
    return found
