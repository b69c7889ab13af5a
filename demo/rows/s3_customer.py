"""A customer's bucket."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from demo.row import Row

PART = "aws"


def rows(aws: Mapping[str, Any], _callback: str) -> list[Row]:
    app, rotator = aws["app"], aws["rotator"]
    return [
        Row(
            "customer bucket",
            "s3-customer",
            "access_key",
            {
                "bucket": aws["bucket"],
                "region": aws["region"],
                "user_name": app["user"],
                "access_key_id": app["access_key_id"],
                "admin_access_key_id": rotator["access_key_id"],
                "iam_endpoint": aws["url"],
                "sts_endpoint": aws["url"],
                "s3_endpoint": aws["url"],
            },
            {
                "secret_access_key": app["secret_access_key"],
                "admin_secret_access_key": rotator["secret_access_key"],
            },
            {"settle_create_s": "6", "settle_revoke_s": "4"},
            every_s=0.3,
        )
    ]
