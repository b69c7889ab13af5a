"""The lists that jobs may read a piece of, as a `Reader`: one GET, counted, and nothing of it kept."""

from __future__ import annotations

from dataclasses import dataclass, replace

from keyturn.contract.values import Access, Sample
from keyturn.definitions.calls import Caller
from keyturn.definitions.classify import Refused
from keyturn.definitions.expressions import compile_template
from keyturn.definitions.model import Condition, Definition, SampleRead
from keyturn.definitions.scopes import complete, values
from keyturn.definitions.tokens import sign
from keyturn.definitions.verifier import Unclear, granted
from keyturn.errors import InvalidInput, UnexpectedAnswer
from keyturn.model.secret import Material

_GOOD = (Condition(status_from=200, status_to=299),)


@dataclass(frozen=True)
class DeclaredReader:
    """Reads one page of a declared `sample`."""

    definition: Definition

    def read_sample(self, access: Access, material: Material, what: str, limit: int) -> Sample:
        """Counts what stands at `items`, at most `limit`; `what` names the sample, and may be empty where there is one.

        Raises: InvalidInput naming the samples there are; what the answer means; UnexpectedAnswer when there is no list
        where it should be.
        """
        sample = self._named(what)
        try:
            with complete():
                return self._count(access, material, sample, limit)
        except Refused as refused:
            raise refused.error() from None
        except Unclear as unclear:
            raise InvalidInput(unclear.detail, field="what", code=unclear.code) from None

    def _named(self, what: str) -> SampleRead:
        samples = self.definition.samples
        found = next((s for s in samples if s.name == what or (not what and len(samples) == 1)), None)
        if found is None:
            names = ", ".join(s.name for s in samples)
            raise InvalidInput(
                f"there is no sample {what}" if what else "nothing is named to read",
                hint=f"One of: {names}.",
                field="what",
            )
        return found

    def _count(self, access: Access, material: Material, sample: SampleRead, limit: int) -> Sample:
        caller = Caller(self.definition, access)
        scopes = values(self.definition, access, material)
        placed = sign(caller, scopes, sample.request)
        granted(caller, scopes, placed)
        request = sample.request
        if sample.limit_param:
            bound = compile_template(str(min(limit, sample.most)))
            request = replace(request, query=(*request.query, (sample.limit_param, bound)))
        answer = caller.call(request, scopes, placed, _GOOD, "sample")
        found = sample.items.select(answer.json())
        if len(found) == 1 and isinstance(found[0], list):
            found = found[0]
        elif not sample.items.many:
            raise UnexpectedAnswer(
                f"{answer.host} answered without a list of {sample.title}", status=answer.status
            )
        return Sample(min(len(found), limit), sample.title)
