"""Decides one login: which factor, in which order the checks come, and what history remembers.

The order of simultaneous problems is not documented, so it is written once, in `_decide`.

Source: login bodies and failures from snowflakedb/snowflake-connector-python src/snowflake/connector/auth/*.py and
test/data/wiremock/mappings; lock-out from docs.snowflake.com user-guide (password policies).
"""

import hmac
import ipaddress
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from . import jwtlogin
from .state import Account, LoginEvent, Pat, User
from .wire import Json, failure, login_answer

_FACTORS = {
    "": "PASSWORD",
    "SNOWFLAKE": "PASSWORD",
    "SNOWFLAKE_JWT": "RSA_KEYPAIR",
    "OAUTH": "OAUTH_ACCESS_TOKEN",
    "PROGRAMMATIC_ACCESS_TOKEN": "PROGRAMMATIC_ACCESS_TOKEN",
}
_METHODS = {  # what a refusal calls the factor; the key-pair name is unconfirmed
    "PASSWORD": "USERNAME_PASSWORD",
    "RSA_KEYPAIR": "KEYPAIR",
    "OAUTH_ACCESS_TOKEN": "OAUTH",
    "PROGRAMMATIC_ACCESS_TOKEN": "PAT",
}


class LoginRefusal(Exception):
    """A no: the code and text the client gets, and the symbol only history gets."""

    def __init__(self, code: str, message: str, symbol: str, data: Json | None = None) -> None:
        super().__init__(message)
        self.code, self.message, self.symbol, self.data = code, message, symbol, data or {}


@dataclass
class Attempt:
    """A login request, read but not believed."""

    body: Json
    role: str
    client_ip: str
    in_flight: str | None = None
    user: User | None = None
    integration: str | None = None
    pat: str | None = None

    @property
    def factor(self) -> str:
        return _FACTORS.get(self._text("AUTHENTICATOR").upper(), "UNKNOWN")

    @property
    def login_name(self) -> str:
        return self._text("LOGIN_NAME")

    @property
    def token(self) -> str:
        return self._text("TOKEN")

    @property
    def password(self) -> str:
        return self._text("PASSWORD")

    def _text(self, key: str) -> str:
        value = self.body.get(key)
        return value if isinstance(value, str) else ""


def log_in(account: Account, attempt: Attempt) -> Json:
    """The whole login answer, and one row of login history whatever it is."""
    refusal: LoginRefusal | None = None
    try:
        role = _decide(account, attempt)
    except LoginRefusal as no:
        refusal, role = no, ""
    event = LoginEvent(
        id=account.next_number(),
        at=account.now(),
        user=attempt.user.name if attempt.user else attempt.login_name.upper(),
        client_ip=attempt.client_ip,
        client_type=str(attempt.body.get("CLIENT_APP_ID", "OTHER")),
        client_version=str(attempt.body.get("CLIENT_APP_VERSION", "")),
        factor=attempt.factor,
        code=refusal.code if refusal else None,
        symbol=refusal.symbol if refusal else None,
        failure_id=str(uuid.uuid4()),
        integration=attempt.integration,
    )
    account.logins.append(event)
    if refusal is not None:
        data = {
            "nextAction": "RETRY_LOGIN",
            "authnMethod": _METHODS.get(attempt.factor, "USERNAME_PASSWORD"),
            "signInOptions": {},
            **refusal.data,
        }
        return failure(refusal.code, refusal.message.replace("<uuid>", event.failure_id), data)
    user = attempt.user
    if user is None:  # unreachable: _decide names the user or refuses
        raise AssertionError
    user.last_success_login = account.now()
    session = account.open_session(
        user, role, attempt.factor, integration=attempt.integration, pat=attempt.pat
    )
    return login_answer(
        user=user.name, token=session.token, master=session.master, number=session.id, role=session.role
    )


def _decide(account: Account, attempt: Attempt) -> str:
    """Passes with the session's role, or raises LoginRefusal. This is the one place that orders the checks."""
    wanted_role = _identify(account, attempt)
    user = attempt.user
    if user is None:
        raise _bad_password() if attempt.factor == "PASSWORD" else _unknown(attempt.factor)
    _check_network(account, user, attempt.client_ip)
    _check_lock(account, user)
    restricted = _check_credential(account, user, attempt)
    if user.disabled:
        raise LoginRefusal(
            "390101",
            "User access disabled. Contact your local system administrator.",
            "USER_ACCESS_DISABLED",
        )
    _check_password_change(account, user, attempt)
    _check_password_alone(user, attempt)
    return _check_role(account, user, restricted or wanted_role, attempt.role)


def _identify(account: Account, attempt: Attempt) -> str | None:
    """Finds the user an attempt speaks for; tokens name their own, and may fix the role."""
    if attempt.factor == "OAUTH_ACCESS_TOKEN":
        return _identify_oauth(account, attempt)
    if attempt.factor == "PASSWORD" and _pat_owner(account, attempt.password):
        attempt.body = {
            **attempt.body,
            "AUTHENTICATOR": "PROGRAMMATIC_ACCESS_TOKEN",
            "TOKEN": attempt.password,
        }
    if attempt.factor == "PROGRAMMATIC_ACCESS_TOKEN" and not attempt.login_name:
        attempt.user = _pat_owner(account, attempt.token)
        return None
    attempt.user = account.by_login(attempt.login_name)
    return None


def _identify_oauth(account: Account, attempt: Attempt) -> str:
    grant = account.grants.get(attempt.token)
    if grant is None or grant.kind != "access":
        raise _unknown(attempt.factor)
    attempt.integration = grant.integration
    integration = account.integrations.get(grant.integration)
    if integration is None or not integration.enabled:
        # 390302 to 390311 are OAuth refusals; which means which is unconfirmed.
        raise LoginRefusal("390304", "OAuth integration is disabled.", "OAUTH_INTEGRATION_DISABLED")
    if grant.expires_at <= account.now():
        raise LoginRefusal("390318", "OAuth access token expired. [<uuid>]", "OAUTH_ACCESS_TOKEN_EXPIRED")
    attempt.user = account.users.get(grant.user)
    if attempt.login_name and attempt.user is not account.by_login(attempt.login_name):
        raise LoginRefusal(
            "390309",
            "The user you were trying to authenticate as differs from the user tied to the access token.",
            "OAUTH_USERNAME_MISMATCH",
        )
    return grant.role


def _check_network(account: Account, user: User, client_ip: str) -> None:
    """A user's policy wins over the account's."""
    policy = account.policies.get(user.network_policy or account.account_policy or "")
    if policy is None:
        return
    address = ipaddress.ip_address(client_ip)

    def within(ranges: list[str]) -> bool:
        return any(address in ipaddress.ip_network(item, strict=False) for item in ranges)

    if within(policy.blocked) or (policy.allowed and not within(policy.allowed)):
        raise LoginRefusal(
            "390422",
            f"Incoming request with IP/Token {client_ip} is not allowed to access Snowflake. "
            "Contact your local system administrator.",
            "INCOMING_IP_BLOCKED",
        )


def _check_lock(account: Account, user: User) -> None:
    if user.locked_until is None:
        return
    if user.locked_until > account.now():
        raise LoginRefusal(
            "390102",
            "Your user account has been temporarily locked due to too many failed attempts. "
            "Try again after 15 minutes or contact your account administrator for assistance.",
            "USER_ACCESS_LOCKED",
        )
    user.locked_until, user.bad_passwords = None, 0


def _check_role(account: Account, user: User, fixed: str | None, asked: str) -> str:
    """The session's role: a token's own, or one of the user's. The number is the driver community's, not the docs'."""
    role = fixed or asked.strip('"') or user.default_role
    if fixed is None and not account.may_take(user, role):
        raise LoginRefusal(
            "390189",
            f"Role '{role}' specified in the connect string does not exist or not authorized.",
            "ROLE_DOES_NOT_EXIST_OR_NOT_AUTHORIZED",
        )
    return role


def _check_credential(account: Account, user: User, attempt: Attempt) -> str | None:
    """Raises unless the credential opens; hands back the role a token is restricted to."""
    if attempt.factor == "PASSWORD":
        if not _changes_password(account, user, attempt):
            _check_password(account, user, attempt.password)
    elif attempt.factor == "RSA_KEYPAIR":
        _check_jwt(account, user, attempt.token)
    elif attempt.factor == "PROGRAMMATIC_ACCESS_TOKEN":
        pat = _check_pat(account, user, attempt.token)
        attempt.pat = pat.name
        return pat.role_restriction
    elif attempt.factor != "OAUTH_ACCESS_TOKEN":  # that one was settled when the token named its user
        raise LoginRefusal("390401", "Login failed.", "UNKNOWN_AUTHENTICATOR")
    return None


def _check_password(account: Account, user: User, password: str) -> None:
    if any(hmac.compare_digest(each.encode(), password.encode()) for each in account.open_passwords(user)):
        user.bad_passwords = 0
        return
    if user.password is not None:
        user.bad_passwords += 1
        if user.bad_passwords >= account.settings.lock_after_failures:
            user.locked_until = account.now() + timedelta(minutes=account.settings.lock_minutes)
    raise _bad_password()


def _check_jwt(account: Account, user: User, token: str) -> None:
    claims = jwtlogin.read_token(token)
    problem = (
        jwtlogin.BAD_SIGNATURE
        if claims is None
        else jwtlogin.problem_with(
            claims,
            account=account.settings.account.upper(),
            login_name=user.login_name.upper(),
            slots=account.open_keys(user),
            # Wall time, not lab time: a test can push the lab's clock, but not the driver's.
            now=datetime.now(UTC) + timedelta(seconds=account.settings.clock_skew_s),
        )
    )
    if problem is not None:
        raise LoginRefusal("390144", "JWT token is invalid. [<uuid>]", problem.symbol)


def _check_pat(account: Account, user: User, secret: str) -> Pat:
    for pat in user.pats.values():
        if hmac.compare_digest(pat.secret.encode(), secret.encode()):
            if pat.is_off or pat.expires_at <= account.now():
                break
            return pat
    raise _unknown("PROGRAMMATIC_ACCESS_TOKEN")


def _check_password_change(account: Account, user: User, attempt: Attempt) -> None:
    """A password that must be changed opens only a ticket, with which the client may send its new one."""
    if attempt.factor != "PASSWORD" or not user.must_change_password:
        return
    if user.change_ticket is None:
        user.change_ticket = account.mint("change_ticket")
    raise LoginRefusal(
        "390106",
        "Your password has expired and must be changed.",
        "PASSWORD_EXPIRED",
        {"nextAction": "PWD_CHANGE", "inFlightCtx": user.change_ticket},
    )


def _check_password_alone(user: User, attempt: Attempt) -> None:
    """The withdrawal of passwords by stages, or an authentication policy, as far as one has reached this user."""
    if attempt.factor != "PASSWORD" or user.password_alone is None:
        return
    if user.password_alone == "mfa":
        raise LoginRefusal(
            "390197",
            "Multi-factor authentication is required for this account. Log in to Snowsight to enroll.",
            "MFA_ENROLLMENT_REQUIRED",  # the symbol is unconfirmed
        )
    raise LoginRefusal(
        "390202",
        "Authentication attempt rejected by the current authentication policy.",
        "AUTHENTICATION_POLICY_REJECTED",  # the symbol is unconfirmed
    )


def _changes_password(account: Account, user: User, attempt: Attempt) -> bool:
    """Takes a CHOSEN_NEW_PASSWORD against a ticket.

    Drivers 3.x and 4.x send the ticket with PASSWORD null, so the ticket alone must prove the old one; 5.x cannot.
    """
    chosen = attempt.body.get("CHOSEN_NEW_PASSWORD")
    if not isinstance(chosen, str) or user.change_ticket is None or attempt.in_flight != user.change_ticket:
        return False
    account.set_password(user, chosen)
    user.must_change_password, user.change_ticket = False, None
    return True


def _pat_owner(account: Account, secret: str) -> User | None:
    owners = (user for user in account.users.values() for pat in user.pats.values() if pat.secret == secret)
    return next(owners, None) if secret else None


def _bad_password() -> LoginRefusal:
    """One text for a wrong password and an unknown user."""
    return LoginRefusal(
        "390100", "Incorrect username or password was specified.", "INCORRECT_USERNAME_PASSWORD"
    )


def _unknown(factor: str) -> LoginRefusal:
    if factor == "RSA_KEYPAIR":
        problem = jwtlogin.BAD_USER
        return LoginRefusal("390144", "JWT token is invalid. [<uuid>]", problem.symbol)
    if factor == "PROGRAMMATIC_ACCESS_TOKEN":
        return LoginRefusal(
            "394400", "Programmatic access token is invalid.", "PROGRAMMATIC_ACCESS_TOKEN_INVALID"
        )
    return LoginRefusal("390303", "Invalid OAuth access token. [<uuid>]", "OAUTH_ACCESS_TOKEN_INVALID")
