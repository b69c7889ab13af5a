"""The account everyone starts with, and the oracle that says which credentials would open it right now."""

from keyturn_lab import guard
from keyturn_lab.clock import Clock
from keyturn_lab.quirks import Quirks
from keyturn_lab.standin import Live

from .state import Account, User

ADMIN = "KEYTURN_ADMIN"
SERVICE_USER = "GS_GAINSIGHT_USER"
LEGACY_USER = "GS_LEGACY_USER"


def new_password() -> str:
    """A marked password the default policy takes."""
    return guard.remember("password", guard.mint("password") + "aA1")


class Snowflake:
    """One account with its seed: an administrator, a keyless service user, a user with only a password."""

    def __init__(self, clock: Clock, quirks: Quirks) -> None:
        self.account = Account(clock.moment, guard.mint, quirks)
        self._seed()

    def reset(self) -> None:
        with self.account.lock:
            self.account.clear()
            self._seed()

    def alive(self) -> list[Live]:
        """Every credential that opens a login or a token endpoint. A lock-out is temporary, so it is only a fact."""
        with self.account.lock:
            found = [live for user in self.account.users.values() for live in self._of_user(user)]
            return found + self._of_integrations()

    def _seed(self) -> None:
        now = self.account.now()
        for name, kind, password, role in (
            (ADMIN, None, guard.DEMO_PASSWORD, "ACCOUNTADMIN"),
            (SERVICE_USER, "SERVICE", None, "GAINSIGHT_ROLE"),
            (LEGACY_USER, None, new_password(), "GAINSIGHT_ROLE"),
        ):
            self.account.users[name] = User(
                name=name,
                login_name=name,
                created_on=now,
                type=kind,
                password=password,
                password_set_at=now if password else None,
                roles={role},
                default_role=role,
            )

    def _of_user(self, user: User) -> list[Live]:
        if user.disabled:
            return []
        now = self.account.now()
        facts = {"locked": user.locked_until is not None and user.locked_until > now}
        slots = {key.fingerprint: slot for slot, key in user.keys.items()}
        found = [
            Live(
                f"{user.name}/{slots.get(key.fingerprint, 'LINGERING_KEY')}",
                "public_key",
                user.name,
                key.body,
                facts | {"fingerprint": key.fingerprint},
            )
            for key in self.account.open_keys(user)
        ]
        found += [
            Live(f"{user.name}/PASSWORD", "password", user.name, password, facts)
            for password in self.account.open_passwords(user)
        ]
        found += [
            Live(f"{user.name}/PAT/{pat.name}", "pat", user.name, pat.secret, facts)
            for pat in user.pats.values()
            if not pat.is_off and pat.expires_at > now
        ]
        return found

    def _of_integrations(self) -> list[Live]:
        enabled = {name: each for name, each in self.account.integrations.items() if each.enabled}
        found = [
            Live(
                f"{name}/{slot}",
                "oauth_client_secret",
                name,
                secret,
                {"client_id": each.client_id, "used": secret in each.used},
            )
            for name, each in enabled.items()
            for slot, secret in zip(
                ("OAUTH_CLIENT_SECRET", "OAUTH_CLIENT_SECRET_2"), each.secrets, strict=True
            )
        ]
        return found + [
            Live(
                f"{grant.integration}/{grant.user}",
                f"{grant.kind}_token",
                grant.user,
                token,
                {"role": grant.role},
            )
            for token, grant in self.account.grants.items()
            if grant.kind != "code"
            and grant.integration in enabled
            and grant.expires_at > self.account.now()
            and not self.account.users[grant.user].disabled
        ]
