"""Microsoft's own client, unmodified, in front of the lab's Entra."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msal
import requests

from keyturn.model.secret import Material


class _Elsewhere(requests.Session):
    """MSAL insists on https: what is sent to that address reaches the stand-in, as behind a proxy that ends TLS."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.trust_env = False
        self.headers.update({"X-Forwarded-Proto": "https", "X-Forwarded-Host": "login.lab"})
        self._url = url

    def request(self, method: str, url: str, *args: Any, **kwargs: Any) -> Any:
        return super().request(method, url.replace("https://login.lab", self._url), *args, **kwargs)


def sign_in(settings: Mapping[str, Any], held: Material) -> dict[str, Any]:
    """What MSAL answers with a credential as Keyturn holds it: an access token, or an error with its codes."""
    with _Elsewhere(str(settings["login_url"])) as session:
        application = msal.ConfidentialClientApplication(
            settings["client_id"],
            authority=f"https://login.lab/{settings['tenant_id']}",
            client_credential=_as_msal_has_it(held),
            instance_discovery=False,
            http_client=session,
        )
        return dict(application.acquire_token_for_client(["https://login.lab/.default"]))


def who_am_i(settings: Mapping[str, Any], token: str) -> str:
    """Dataverse has no client: its one question is asked with MSAL's token, by the address it was made for."""
    with _Elsewhere(str(settings["org_url"])) as session:
        headers = {"Authorization": f"Bearer {token}"}
        answer = session.get("https://login.lab/api/data/v9.2/WhoAmI", headers=headers)
        return str(answer.json()["UserId"])


def _as_msal_has_it(material: Material) -> Any:
    if "client_secret" in material:
        return material["client_secret"]
    pem = material["certificate"]
    key = re.search(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----", pem, re.DOTALL)
    certificate = re.search(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", pem, re.DOTALL)
    assert key
    assert certificate
    return {"private_key": key[0], "public_certificate": certificate[0]}
