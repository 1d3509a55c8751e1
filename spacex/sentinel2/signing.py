"""Signs links to Planetary Computer's blob storage with tokens that expire after about 45 minutes.

Read from the environment: ``PC_SDK_SUBSCRIPTION_KEY`` (a key that raises the service's rate limit) and
``PC_SDK_SAS_URL`` (another token service).
"""

from __future__ import annotations

import os
import re
import time
from datetime import datetime
from threading import Lock

import requests
from requests.adapters import HTTPAdapter

from spacex.sentinel2.retries import BUSY, BoundedRetry

SAS_SERVICE = "https://planetarycomputer.microsoft.com/api/sas/v1/token"
RENEW_BEFORE_S = 60.0
RETRIES = BoundedRetry(total=6, read=2, backoff_factor=0.8, status_forcelist=BUSY)
BLOB = re.compile(r"https://([a-z0-9]+)\.blob\.core\.windows\.net/([^/?]+)/")

_tokens: dict[str, tuple[str, float]] = {}
_lock = Lock()


def sign(href: str) -> str:
    """Append a token to an https link to blob storage; other links are returned unchanged.

    Raises:
        OSError: if the token service cannot be reached or its answer holds no token.
    """
    if (blob := BLOB.match(href)) is None or "sig=" in href:
        return href
    url = f"{os.environ.get('PC_SDK_SAS_URL') or SAS_SERVICE}/{blob[1]}/{blob[2]}"
    with _lock:  # one request, however many threads open a file when the token has expired
        if url not in _tokens or _tokens[url][1] - time.time() < RENEW_BEFORE_S:
            _tokens[url] = _request_token(url)
        return f"{href}{'&' if '?' in href else '?'}{_tokens[url][0]}"


def _request_token(url: str) -> tuple[str, float]:
    key = os.environ.get("PC_SDK_SUBSCRIPTION_KEY")
    with requests.Session() as session:
        session.mount(url, HTTPAdapter(max_retries=RETRIES))
        answer = session.get(url, headers={"Ocp-Apim-Subscription-Key": key} if key else {}, timeout=(10, 30))
        answer.raise_for_status()
    try:
        body = answer.json()
        return str(body["token"]), datetime.fromisoformat(body["msft:expiry"]).timestamp()
    except (ValueError, KeyError, TypeError) as error:
        raise OSError(f"the token service {url} answered without a token") from error
