"""The lists that jobs may read a piece of, as a `Reader`: one read, counted, and nothing of it kept."""

from __future__ import annotations

from dataclasses import dataclass, replace

from keyturn.contract.values import Access, Sample
from keyturn.definitions.calls import Caller
from keyturn.definitions.classify import Reading, Refused
from keyturn.definitions.expressions import compile_template
from keyturn.definitions.model import Definition, SampleRead
from keyturn.definitions.patterns import parts
from keyturn.definitions.scopes import complete, values
from keyturn.definitions.tokens import sign
from keyturn.definitions.verifier import Unclear, granted
from keyturn.errors import InvalidInput, NotFound, UnexpectedAnswer
from keyturn.model.secret import Material
from keyturn.transport.http import Answer


@dataclass(frozen=True)
class DeclaredReader:
    """Reads one page of a declared `sample`."""

    definition: Definition

    def read_sample(self, access: Access, material: Material, what: str, limit: int) -> Sample:
        """Counts what stands at `items`, at most `limit`; `what` names the sample or what it is of, and may be empty where
        one sample needs no name.

        Raises: InvalidInput saying what there is to read; what the answer means; UnexpectedAnswer when there is no list
        where it should be.
        """
        sample, named = self._chosen(what)
        try:
            with complete():
                return Sample(self._count(access, material, sample, named, limit), what or sample.title)
        except Refused as refused:
            if sample.named is not None and refused.reading.kind == "not_found":
                raise _not_there(what, refused.reading) from None
            raise refused.error() from None
        except Unclear as unclear:
            raise InvalidInput(unclear.detail, field="what", code=unclear.code) from None

    def _chosen(self, what: str) -> tuple[SampleRead, dict[str, str]]:
        """The sample, and the pieces of its name that a request may hold: nothing else of `what` gets anywhere."""
        samples = self.definition.samples
        fixed = [sample for sample in samples if sample.named is None]
        for sample in fixed:
            if sample.name == what or (not what and len(fixed) == 1):
                return sample, {}
        for sample in samples:
            if sample.named is not None and (found := parts(sample.named.pattern, what)) is not None:
                return sample, found
        there = [
            f"{sample.named.form} (such as {sample.named.example})" if sample.named else sample.name
            for sample in samples
        ]
        raise InvalidInput(
            f"there is no sample {what}" if what else "nothing is named to read",
            hint=f"One of: {', '.join(there)}.",
            field="what",
        )

    def _count(
        self, access: Access, material: Material, sample: SampleRead, named: dict[str, str], limit: int
    ) -> int:
        caller = Caller(self.definition, access)
        scopes = values(self.definition, access, material)
        most = str(min(limit, sample.most))
        scopes["sample"] = {**named, "limit": most}
        placed = sign(caller, scopes, sample.request)
        granted(caller, scopes, placed)
        request = sample.request
        if sample.limit_param:
            request = replace(request, query=(*request.query, (sample.limit_param, compile_template(most))))
        answer = caller.call(request, scopes, placed, sample.success, "sample")
        return min(len(_items(answer, sample)), limit)


def _items(answer: Answer, sample: SampleRead) -> list[object]:
    """The list, if it is one: things of one kind, in an answer that says it is JSON. Raises: UnexpectedAnswer."""
    body = answer.json()
    found = sample.items.select(body)
    if sample.items.many:
        if not any(isinstance(each, list | dict) for each in sample.items.container(body)):
            raise _no_list(answer, sample)
    elif len(found) == 1 and isinstance(found[0], list):
        found = found[0]
    elif found or not sample.absent_is_empty:
        raise _no_list(answer, sample)
    if "json" not in answer.header("content-type").lower() and not any(
        rule.header for rule in sample.success
    ):
        raise _no_list(answer, sample)
    if len({type(item) for item in found}) > 1:
        raise _no_list(answer, sample)
    return found


def _not_there(what: str, reading: Reading) -> NotFound:
    """A refusal that is about what was named, and nothing else."""
    hint = reading.hint or "Check how it is spelled, and that the account may see it."
    return NotFound(f"{reading.host} has no {what}", hint=hint, field="what", status=reading.status)


def _no_list(answer: Answer, sample: SampleRead) -> UnexpectedAnswer:
    return UnexpectedAnswer(
        f"{answer.host} answered without a list of {sample.title}",
        hint="Check the address: something else may have answered.",
        status=answer.status,
    )
