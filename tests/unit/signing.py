"""Requests signed by AWS's own client, as they arrive."""

from collections.abc import Mapping
from typing import Final

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from sestet.gate.sigv4 import SentRequest

ID: Final = "AKIAIOSFODNN7EXAMPLE"
SECRET: Final = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
PATH: Final = "/model/anthropic.claude-3-7-sonnet-20250219-v1%3A0/invoke"
BODY: Final = b'{"max_tokens": 8}'


def signed(
    path: str = PATH,
    query: str = "",
    headers: Mapping[str, str] | None = None,
    body: bytes = BODY,
    service: str = "bedrock",
) -> SentRequest:
    """What arrives of a request that botocore signed."""
    url = f"http://localhost:8000{path}" + (f"?{query}" if query else "")
    request = AWSRequest(method="POST", url=url, headers={"Host": "localhost:8000", **(headers or {})}, data=body)
    SigV4Auth(Credentials(ID, SECRET), service, "us-east-1").add_auth(request)
    arrived = {name.lower().encode(): [value.strip().encode()] for name, value in request.headers.items()}
    return SentRequest("POST", path.encode(), query.encode(), arrived)
