"""Everything that can be refused, each with a stable code. Only the API knows what HTTP status that is."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


class FleetError(Exception):
    """A request that cannot be done; the message is one sentence for the person who asked."""

    code: ClassVar[str] = "error"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class NotFoundError(FleetError):
    """There is no such thing, or it belongs to another organization."""

    code = "not_found"


class NameTakenError(FleetError):
    """The organization already has something of that name."""

    code = "name_taken"


class NotActiveError(FleetError):
    """The server is not `active`, so it is not called."""

    code = "server_not_active"


class ChangedMeanwhileError(FleetError):
    """What was acted on was changed or removed before the action was done."""

    code = "changed_meanwhile"


class UnauthenticatedError(FleetError):
    """No caller could be established."""

    code = "unauthenticated"


class ForbiddenError(FleetError):
    """The caller lacks the role for this."""

    code = "forbidden"


class MalformedError(FleetError):
    """What was sent is not what its content type says."""

    code = "malformed"


class TooLargeError(FleetError):
    """What was sent is over a limit."""

    code = "too_large"


class DatabaseUnavailableError(FleetError):
    """PostgreSQL cannot be reached or does not answer."""

    code = "database_unavailable"


class PartitionBusyError(DatabaseUnavailableError):
    """A partition could not be made or dropped for now, because long transactions hold its table."""


class ArchiveError(FleetError):
    """Data could not be archived, so it was not dropped."""

    code = "archive_failed"


@dataclass(frozen=True, slots=True)
class FieldError:
    """One wrong field. `field` is its path, such as `tags.3`; `message` says what is accepted."""

    field: str
    message: str


class InvalidError(FleetError):
    """Well-formed, but with wrong values; `errors` names each."""

    code = "invalid"

    def __init__(self, errors: Sequence[FieldError], message: str | None = None) -> None:
        self.errors = tuple(errors)
        super().__init__(message or "; ".join(f"{error.field}: {error.message}" for error in self.errors[:5]))


@dataclass(frozen=True, slots=True)
class RowErrors:
    """The wrong fields of one row of an import. `row` counts from 0."""

    row: int
    name: str | None
    errors: tuple[FieldError, ...]


class InvalidImportError(FleetError):
    """Rows of an import are wrong, so nothing of it was stored."""

    code = "invalid_import"

    def __init__(self, rows: Sequence[RowErrors], total: int) -> None:
        self.rows = tuple(rows)
        self.total = total
        first = self.rows[0]
        what = first.errors[0]
        named = f" ({first.name})" if first.name else ""
        super().__init__(
            f"{len(self.rows)} of {total} rows are wrong, nothing was stored; the first is row {first.row}{named}: "
            f"{what.field}: {what.message}"
        )
