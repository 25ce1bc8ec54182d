"""Who calls, for which organization, and what the caller may do."""

from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from opsfleet.domain.errors import ForbiddenError


class Role(StrEnum):
    """Each role may do what the ones before it may."""

    VIEWER = "fleet:viewer"
    OPERATOR = "fleet:operator"
    ADMIN = "fleet:admin"
    PLATFORM_ADMIN = "platform:admin"


_RANK = {role: rank for rank, role in enumerate(Role)}


@dataclass(frozen=True, slots=True)
class Caller:
    """The one on whose behalf something is done, within one organization."""

    name: str
    organization_id: UUID
    role: Role

    def may(self, role: Role) -> bool:
        """Say whether the caller has at least `role`."""
        return _RANK[self.role] >= _RANK[role]

    def require(self, role: Role) -> None:
        """Raise `ForbiddenError` unless the caller has at least `role`."""
        if not self.may(role):
            raise ForbiddenError(f"this needs the role {role.value}; yours is {self.role.value}")
