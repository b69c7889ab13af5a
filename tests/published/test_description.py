"""The judge itself: a request or an answer that differs from what is published is told, and nothing secret with it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from tests.published import aws
from tests.published.description import Description, NotPublished
from tests.published.oauth import endpoint
from tests.published.sites import Sites
from tests.published.tap import Exchange

GOOGLE = Description.read("google") | endpoint("google", "/token", ("refresh_token",))
KEYS = "/v1/projects/p/serviceAccounts/a@p.iam.gserviceaccount.com/keys"
KEY = f"projects/p/serviceAccounts/a@p.iam.gserviceaccount.com/keys/{'0' * 40}"
MADE = Exchange(
    "POST",
    KEYS,
    (),
    "application/json",
    b'{"privateKeyType": "TYPE_GOOGLE_CREDENTIALS_FILE"}',
    200,
    "application/json; charset=UTF-8",
    json.dumps({"name": KEY, "privateKeyData": "a3RsYWI="}).encode(),
)
LISTED = Exchange("GET", KEYS, (("keyTypes", "USER_MANAGED"),), "", b"", 200, "application/json", b"{}")
REFRESHED = Exchange(
    "POST",
    "/token",
    (),
    "application/x-www-form-urlencoded",
    b"grant_type=refresh_token&refresh_token=ktlab",
    200,
    "application/json",
    b'{"access_token": "ktlab", "expires_in": 3599, "token_type": "Bearer"}',
)


def test_what_is_published_passes() -> None:
    """The three that the others differ from."""
    assert GOOGLE.judge(MADE) == "iam.projects.serviceAccounts.keys.create"
    assert GOOGLE.judge(LISTED) == "iam.projects.serviceAccounts.keys.list"
    assert GOOGLE.judge(REFRESHED) == "google.token.refresh_token"


@pytest.mark.parametrize(
    ("exchange", "words"),
    [
        (replace(MADE, path="/v1/projects/p/serviceAccounts/a/key"), "described 0 times"),
        (replace(MADE, method="PUT"), "described 0 times"),
        (replace(MADE, query=(("keyTypes", "USER_MANAGED"),)), "knows no parameter keyTypes"),
        (replace(MADE, body=b'{"privateKeyTyp": "x"}'), "has no field privateKeyTyp"),
        (replace(MADE, body=b'{"privateKeyType": "TYPE_PEM"}'), "none of"),
        (replace(MADE, body=b'{"privateKeyType": null}'), "none of"),
        (replace(MADE, body=b"[]"), "is list, not ref"),
        (replace(MADE, kind="text/plain"), "takes JSON"),
        (replace(MADE, answer=b'{"nam": ""}'), "has no field nam"),
        (replace(MADE, answer=b'{"disabled": "no"}'), "is str, not boolean"),
        (replace(MADE, answer=b'{"validAfterTime": "yesterday"}'), "not instant"),
        (replace(MADE, answered_kind="text/html"), "is answered with JSON"),
        (replace(LISTED, query=(("keyTypes", "MINE"),)), "none of"),
        (replace(LISTED, body=b"{}"), "takes no body"),
        (replace(LISTED, answer=b'{"keys": {}}'), "is dict, not list"),
        (replace(REFRESHED, body=b"grant_type=refresh_token"), "needs"),
        (replace(REFRESHED, body=REFRESHED.body + b"&user=x"), "knows no field user"),
        (replace(REFRESHED, body=b"grant_type=password&refresh_token=x"), "none of"),
        (replace(REFRESHED, answer=b'{"expires_in": "3599"}'), "is str, not integer"),
    ],
)
def test_what_differs_is_told(exchange: Exchange, words: str) -> None:
    """Place and reason, and no value."""
    with pytest.raises(NotPublished, match=words) as caught:
        GOOGLE.judge(exchange)
    assert "ktlab" not in f"{caught.value}"


IAM = Exchange(
    "POST",
    "/",
    (),
    "application/x-www-form-urlencoded; charset=utf-8",
    b"Action=UpdateAccessKey&Version=2010-05-08&UserName=u&AccessKeyId=AKIAAAAAAAAAAAAAAAAA&Status=Inactive",
    200,
    "text/xml",
    b'<UpdateAccessKeyResponse xmlns="https://iam.amazonaws.com/doc/2010-05-08/"/>',
    (("authorization", "AWS4-HMAC-SHA256 Credential=AKIA/20261129/us-east-1/iam/aws4_request"),),
)
MORE = b"</Status><Extra/></member></AccessKeyMetadata><IsTruncated>false</IsTruncated></ListAccessKeysResult></ListAccessKeysResponse>"
LIST = replace(
    IAM,
    body=b"Action=ListAccessKeys&Version=2010-05-08&UserName=u",
    answer=b"<ListAccessKeysResponse><ListAccessKeysResult><AccessKeyMetadata><member><Status>Active" + MORE,
)


@pytest.mark.parametrize(
    ("exchange", "words"),
    [
        (
            replace(IAM, body=IAM.body.replace(b"UpdateAccessKey", b"ChangeAccessKey")),
            "iam has no ChangeAccessKey",
        ),
        (replace(IAM, body=IAM.body.replace(b"2010-05-08", b"2010-05-09")), "model's version"),
        (replace(IAM, body=IAM.body + b"&Force=true"), "knows no"),
        (replace(IAM, body=IAM.body.replace(b"Inactive", b"Off")), "none of"),
        (replace(IAM, body=IAM.body.replace(b"&Status=Inactive", b"")), "Missing required parameter"),
        (replace(IAM, body=IAM.body.replace(b"UserName=u", b"UserName=u%2Fx")), "does not fit"),
        (replace(IAM, headers=()), "not signed"),
        (replace(IAM, answered_kind="application/json"), "answered with XML"),
        (LIST, "knows no Extra"),
        (
            replace(LIST, answer=LIST.answer.replace(b"<Extra/>", b"<CreateDate>now</CreateDate>")),
            "is no timestamp",
        ),
        (replace(LIST, answer=b"<ListAccessKeysResponse/>"), "lacks"),
        (
            replace(IAM, method="GET", path="/bucket", query=(("list-type", "2"), ("prefx", "a"))),
            "iam is not asked",
        ),
    ],
)
def test_what_differs_from_awss_models_is_told(exchange: Exchange, words: str) -> None:
    """Of requests and of answers."""
    assert aws.judge(IAM) == "iam:UpdateAccessKey"
    with pytest.raises((NotPublished, AssertionError), match=words):
        aws.judge(exchange)


def test_a_line_that_never_ran_is_told() -> None:
    """Nothing ran, so each line that calls a vendor is missing; a line that only computes is none of them."""
    silent = Sites(("databricks",)).silent()
    assert "client.py: line.call('GET', ME)" in silent
    assert not [each for each in silent if "hexdigest" in each or "json.loads" in each]
