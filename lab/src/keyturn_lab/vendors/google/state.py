"""Google's memory of one customer: a project with its service accounts, two people, one OAuth client; no HTTP."""

import base64
import hashlib
import itertools
import threading
from collections.abc import Iterable
from dataclasses import dataclass

from keyturn_lab import guard
from keyturn_lab.clock import Clock, Lifespan
from keyturn_lab.quirks import Quirks
from keyturn_lab.standin import Live
from keyturn_lab.vendors.google import keys
from keyturn_lab.vendors.google.grants import (
    DAY_S,
    AccessToken,
    Client,
    ClientSecret,
    Code,
    Grant,
    Person,
    RefreshToken,
)
from keyturn_lab.vendors.google.keys import Account, Key, Switch

PROJECT = "lab-analytics"
DATASET = "usage_data"
ME, OTHER = "integration@acme.example", "admin@acme.example"
APP, ITSELF, ROTATOR, STRANGER = "gainsight", "alone", "keyturn-rotator", "stranger"
CALLBACK = "http://127.0.0.1:8080/oauth/callback"


def address(name: str) -> str:
    """The e-mail of a service account of this project."""
    return f"{name}@{PROJECT}.iam.gserviceaccount.com"


@dataclass
class Settings:
    """What a test may change. Where Google is silent, the default is the case that is harder to handle."""

    access_life_s: float = 3599.0
    code_life_s: float = 300.0
    idle_s: float = 182 * DAY_S
    testing_s: float = 7 * DAY_S
    most_refresh_tokens: int = 100
    keys_forbidden: bool = False  # organization policy iam.disableServiceAccountKeyCreation
    policy_is_told: bool = True  # whether that refusal carries the policy's name
    full_is_429: bool = False  # how the eleventh key was refused until about 2023
    list_lag_s: float = 0.0  # IAM's lists show what was so long ago
    invalid_rapt: bool = False  # a Workspace policy wants a fresh login
    jobs_forbidden: bool = False
    api_disabled: bool = False
    job_is_slow: bool = False
    robot_is_disabled: bool = False  # the older words for a disabled service account
    page_size: int = 50


class World:
    """Safe to share between threads."""

    def __init__(self, clock: Clock, quirks: Quirks) -> None:
        self.clock, self.quirks = clock, quirks
        self.lock = threading.RLock()
        self.url = "http://127.0.0.1"  # set by the first request: the address a key file names
        self.reset()

    def reset(self) -> None:
        with self.lock:
            self.settings = Settings()
            self._numbers = itertools.count(1)
            self.accounts: dict[str, Account] = {}
            self.access: dict[str, AccessToken] = {}
            self.codes: dict[str, Code] = {}
            self.grants: dict[tuple[str, str], Grant] = {}
            self.clients: dict[str, Client] = {}
            self.people = {
                each.email: each
                for each in (
                    Person(
                        "108204268033311374519",
                        ME,
                        "Integration User",
                        properties={"310001": "Acme web", "310002": "Acme app"},
                        rights=set(keys.JOB_USER | keys.DATA_VIEWER),
                    ),
                    Person(
                        "113977511940036218842",
                        OTHER,
                        "Ada Admin",
                        properties={"310001": "Acme web"},
                        rights=set(keys.JOB_USER | keys.DATA_VIEWER),
                    ),
                )
            }
            reader = keys.JOB_USER | keys.DATA_VIEWER
            self._seed(APP, "Gainsight reads BigQuery", {"": set(reader)})
            self._seed(ITSELF, "Rotates itself", {"": set(reader), address(ITSELF): set(keys.KEY_ADMIN)})
            self._seed(ROTATOR, "Keyturn", {"": set(keys.KEY_ADMIN | keys.ACCOUNT_ADMIN)})
            self._seed(STRANGER, "Somebody else's", {"": set(reader)})
            self.add_client("Keyturn Lab", CALLBACK)

    def _seed(self, name: str, title: str, rights: dict[str, set[str]]) -> None:
        number = 100_000_000_000_000_000_000 + next(self._numbers)
        account = Account(address(name), PROJECT, str(number), title, rights=rights)
        self.accounts[account.email] = account
        keys.system_key(account, self.clock.now())

    def alive(self) -> list[Live]:
        """Keys, client secrets, refresh and access tokens that would be taken."""
        with self.lock:
            now = self.clock.now()
            found = [
                Live(key.id, "service_account_key", key.email, key.file, {"project": account.project})
                for account in self.accounts.values()
                for key in account.keys.values()
                if key.type == "USER_MANAGED" and key.works(now) and not account.is_off
            ]
            found += [
                Live(client.client_id, "client_secret", client.name, secret.value)
                for client in self.clients.values()
                for secret in client.secrets
                if secret.is_on and client.state == "live"
            ]
            found += [
                Live(
                    f"{grant.client_id}/{n}",
                    "refresh_token",
                    grant.person.email,
                    token.value,
                    {"client_id": grant.client_id},
                )
                for grant in self.grants.values()
                for n, token in enumerate(grant.tokens)
                if self._refreshes(grant, token)
            ]
            return found + [
                Live(token.audience, "access_token", token.holder, token.value)
                for token in self.access.values()
                if self._is_taken(token)
            ]

    # -- service accounts --------------------------------------------------------------------------------------------

    def find(self, who: str) -> Account | None:
        """By e-mail or unique id."""
        by_id = {account.unique_id: account for account in self.accounts.values()}
        return self.accounts.get(who) or by_id.get(who)

    def create_key(self, account: Account) -> tuple[Key, str]:
        with self.lock:
            now = self.clock.now()
            return keys.make_key(account, now, self.quirks.known_from(now), f"{self.url}/token")

    def first_key(self, account: Account) -> str:
        """The file of a working key, made on first asking: what a customer would hand over."""
        with self.lock:
            known = next((key for key in account.own_keys() if key.works(self.clock.now())), None)
            if known is None:
                pair = keys.first_pair(account.email)
                known, _ = keys.make_key(account, self.clock.now(), 0.0, f"{self.url}/token", pair)
            return known.file

    def fresh_key(self, account: Account) -> str:
        """Every key of the account dies at once, and one new one works at once: a clean start for a test."""
        with self.lock:
            now = self.clock.now()
            for key in list(account.own_keys()):
                key.deleted_at = now
                key.life.end(now)
            account.is_off = False
            return keys.make_key(account, now, now, f"{self.url}/token")[0].file

    def delete_key(self, key: Key) -> None:
        with self.lock:
            key.deleted_at = self.clock.now()
            key.life.end(self.quirks.dead_from(key.deleted_at))

    def switch_key(self, key: Key, *, is_on: bool) -> None:
        with self.lock:
            now = self.clock.now()
            if key.is_off(now) is is_on:
                bites = self.quirks.known_from(now) if is_on else self.quirks.dead_from(now)
                key.switches.append(Switch(is_on, now, bites))

    def issue_robot(self, account: Account, scopes: Iterable[str]) -> AccessToken:
        return self._issue(account.email, account.unique_id, frozenset(scopes), None)

    # -- people ------------------------------------------------------------------------------------------------------

    def add_client(self, name: str, callback: str) -> Client:
        with self.lock:
            number = 730_000_000_000 + next(self._numbers)
            client = Client(
                f"{number}-{guard.mint('google_client_id', 20)}.apps.googleusercontent.com".lower(),
                name,
                [callback],
            )
            self.clients[client.client_id] = client
            self.add_secret(client)
            return client

    def add_secret(self, client: Client) -> ClientSecret:
        with self.lock:
            secret = ClientSecret(f"GOCSPX-{guard.mint('google_client_secret', 28)}", self.clock.now())
            guard.remember("google_client_secret", secret.value)
            client.secrets.append(secret)
            return secret

    def consent(
        self,
        client: Client,
        person: Person,
        scopes: Iterable[str],
        *,
        redirect_uri: str,
        challenge: str,
        offline: bool,
        asked: bool,
    ) -> str:
        """A one-time code. A refresh token comes only offline, and on repeats only when the person was asked again."""
        with self.lock:
            key = (client.client_id, person.email)
            known = self.grants.get(key)
            if known is None or known.is_removed:
                if known is not None:
                    self.grants[(f"{client.client_id}#{next(self._numbers)}", person.email)] = (
                        known  # may linger
                    )
                known = self.grants[key] = Grant(client.client_id, person)
                asked = True
            known.scopes |= set(scopes)
            code = f"4/0{guard.mint('google_code', 60)}"
            until_at = self.clock.now() + self.settings.code_life_s
            self.codes[code] = Code(
                known, frozenset(scopes), redirect_uri, challenge, offline and asked, until_at
            )
            return code

    def exchange(
        self, client: Client, code: str, redirect_uri: str, verifier: str
    ) -> tuple[AccessToken, RefreshToken | None] | None:
        with self.lock:
            found, now = self.codes.pop(code, None), self.clock.now()
            if found is None or found.until_at < now or found.grant.client_id != client.client_id:
                return None
            digest = (
                base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
            )
            if found.redirect_uri != redirect_uri or found.grant.is_removed:
                return None
            if found.challenge and digest != found.challenge:
                return None
            grant = found.grant
            access = self._issue(grant.person.email, client.client_id, found.scopes, grant)
            if not found.with_refresh:
                return access, None
            value = f"1//0{guard.mint('google_refresh_token', 90)}"
            token = RefreshToken(value, found.scopes, Lifespan(self.quirks.known_from(now)), now, now)
            grant.tokens.append(token)
            living = [each for each in grant.tokens if self._refreshes(grant, each)]
            for oldest in living[: max(0, len(living) - self.settings.most_refresh_tokens)]:
                oldest.life.end(now)  # silently
            return access, token

    def refresh(self, client: Client, value: str) -> tuple[AccessToken, RefreshToken] | None:
        """An access token; the refresh token stays what it was, and its half year starts anew."""
        with self.lock:
            for grant in self.grants.values():
                for token in grant.tokens:
                    if (
                        token.value == value
                        and grant.client_id == client.client_id
                        and self._refreshes(grant, token)
                    ):
                        token.used_at = self.clock.now()
                        return self._issue(grant.person.email, client.client_id, token.scopes, grant), token
            return None

    def _refreshes(self, grant: Grant, token: RefreshToken) -> bool:
        now, settings = self.clock.now(), self.settings
        client = self.clients.get(grant.client_id)
        if client is None or client.state == "deleted":
            return False
        if client.is_testing and now > token.born_at + settings.testing_s:
            return False
        return token.life.holds(now) and now <= token.used_at + settings.idle_s

    def revoke(self, value: str) -> bool:
        """Ends the whole grant that a token belongs to; False for a token nobody knows."""
        with self.lock:
            token = self.access.get(value)
            grant = token.grant if token is not None else None
            for each in self.grants.values():
                if any(known.value == value for known in each.tokens):
                    grant = each
            if grant is None or grant.is_removed:
                return False
            self.remove(grant)
            return True

    def remove(self, grant: Grant) -> None:
        """Every refresh and access token of the grant dies, however many consents it came from."""
        with self.lock:
            at = self.quirks.dead_from(self.clock.now())
            grant.is_removed = True
            for token in grant.tokens:
                token.life.end(at)
            for access in self.access.values():
                if access.grant is grant:
                    access.life.end(at)

    # -- tokens ------------------------------------------------------------------------------------------------------

    def _issue(self, holder: str, audience: str, scopes: frozenset[str], grant: Grant | None) -> AccessToken:
        with self.lock:
            now = self.clock.now()
            value = f"ya29.{guard.mint('google_access_token', 120)}"
            until = now + self.settings.access_life_s
            token = AccessToken(value, holder, audience, scopes, Lifespan(now, until), until, grant)
            self.access[value] = token
            return token

    def authenticate(self, value: str) -> AccessToken | None:
        with self.lock:
            token = self.access.get(value)
            return token if token is not None and self._is_taken(token) else None

    def _is_taken(self, token: AccessToken) -> bool:
        """A disabled service account's tokens stop with it; those of a deleted key run on."""
        account = self.accounts.get(token.holder)
        return token.life.holds(self.clock.now()) and not (account is not None and account.is_off)

    def rights_of(self, holder: str) -> set[str]:
        """What somebody may do in BigQuery."""
        if self.settings.jobs_forbidden:
            return set()
        account = self.accounts.get(holder)
        return account.rights.get("", set()) if account is not None else self.people[holder].rights
