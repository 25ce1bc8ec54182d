"""Establishing the caller: the one place where a credential becomes a `Caller`."""

import hmac

from opsfleet.domain.access import Caller, Role
from opsfleet.domain.errors import UnauthenticatedError
from opsfleet.domain.ids import DEFAULT_ORGANIZATION
from opsfleet.vault import token_hash


class AccessService:
    """Knows the credentials. The bootstrap token is a platform admin's, acting in the default organization."""

    def __init__(self, bootstrap_admin_token: str | None) -> None:
        self._bootstrap_hash = token_hash(bootstrap_admin_token) if bootstrap_admin_token else None

    def identify(self, bearer_token: str | None) -> Caller:
        """Return the caller that the token belongs to.

        Raises:
            UnauthenticatedError: when there is no token, or nobody has it.
        """
        if bearer_token is None:
            raise UnauthenticatedError("send a token in the header Authorization: Bearer <token>")
        if self._bootstrap_hash is None or not hmac.compare_digest(token_hash(bearer_token), self._bootstrap_hash):
            raise UnauthenticatedError("the token is not valid")
        return Caller("bootstrap token", DEFAULT_ORGANIZATION, Role.PLATFORM_ADMIN)
