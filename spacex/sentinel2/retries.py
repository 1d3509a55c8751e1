"""Waits for a busy server within bounds, and says so."""

from __future__ import annotations

import logging
from typing import Any

from urllib3.exceptions import InvalidHeader
from urllib3.util import Retry

log = logging.getLogger(__name__)

MAX_WAIT_S = 45.0
"""Seconds between two tries at most: with six retries a request waits less than five minutes."""
BUSY = (429, 500, 502, 503, 504)
"""Status codes after which a request is sent again."""


class BoundedRetry(Retry):
    """urllib3's retries, but every wait is bounded and logged.

    urllib3 itself waits as long as ``Retry-After`` says, up to six hours each time, without a word.
    """

    def get_retry_after(self, response: Any) -> float | None:
        """Seconds the server asks to wait, at most `MAX_WAIT_S`; None if it does not say, or nothing readable."""
        try:
            asked = super().get_retry_after(response)
        except InvalidHeader:
            return None
        return None if asked is None else min(asked, MAX_WAIT_S)

    def sleep(self, response: Any = None) -> None:
        """Wait before the next try, as long as the server asks, or twice as long each time."""
        seconds = (response and self.get_retry_after(response)) or self.get_backoff_time()
        if seconds >= 1:
            what = f"is busy (HTTP {response.status})" if response else "does not answer"
            log.warning("the catalogue's server %s, waiting %.0f s", what, seconds)
        super().sleep(response)
