"""This module checks messages against HL7 v2 and a profile, as a step of a channel."""

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final

from pydantic import AfterValidator, Field

from broker.errors import StepError
from broker.message import Document
from broker.spec import StepSpec
from transforms.dictionary import NEAREST, VERSIONS
from transforms.finding import ERROR, SEVERITIES, breaches, reason
from transforms.mistakes import nearest
from transforms.validation import Level, Validator

if TYPE_CHECKING:
    from broker.parts import Transform

# What later steps and destinations see: validation.warnings and its like.
VALUE: Final = "validation"
_COUNTED: Final = {"error": "errors", "warning": "warnings", "information": "information"}


def _known(version: str | None) -> str | None:
    if version is not None and version not in VERSIONS and version not in NEAREST:
        raise ValueError(f"{version!r} is no version of HL7 v2; {nearest(version, [*VERSIONS, *NEAREST])}")
    return version


class ValidateSpec(StepSpec):
    """Checks the message against HL7 v2: errors fail it, with every place and reason; warnings are counted.

    Later steps and destinations see `validation.errors`, `validation.warnings` and `validation.information`.
    """

    of_whole: ClassVar[bool] = True

    hl7: Annotated[str | None, AfterValidator(_known)] = Field(
        default=None, description='The version to check by, such as "2.5.1"; without it, what MSH-12 says.'
    )
    level: Level = Field(
        default="lenient",
        description="`strict`: by the book. `lenient`: only what keeps a message from being read is an error. `off`.",
    )
    profile: str | None = Field(
        default=None, description="What the site declares itself, below the channels folder: `profiles/mercy.yaml`."
    )

    def build(self, kit: Any) -> "Transform":
        """Build the step; raise `ExpressionError` for a mistake in the profile."""
        profile = kit.profile(self.profile, self.hl7 or "") if self.profile is not None else None
        kit.declare(VALUE)
        return Validate(Validator(self.level, profile, self.hl7 or ""))


@dataclass(frozen=True, slots=True)
class Validate:
    """The step."""

    validator: Validator

    def __call__(self, document: Document) -> Document:
        """Return the document with what was counted; on errors raise `StepError` with the first place."""
        found = self.validator(document.message)
        if found.counts[ERROR]:
            told = found.told()
            location = next((each.location for each in told if each.severity == ERROR), "")
            raise StepError(reason(told), step="validate", location=location, breaches=breaches(told)) from None
        counts = {_COUNTED[severity]: found.counts[severity] for severity in SEVERITIES}
        return dataclasses.replace(document, values={**document.values, VALUE: counts}, warned=found.warned)
