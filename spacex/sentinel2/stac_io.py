"""Talking with a STAC API that may be broken or hostile: every answer has bounds in bytes, seconds and places."""

from __future__ import annotations

import json
from contextlib import suppress
from threading import Timer
from typing import Any
from urllib.parse import urljoin

from pystac import Link
from pystac_client.stac_api_io import StacApiIO
from requests import Response
from urllib3.util import Retry

from spacex.errors import CatalogueError
from spacex.sentinel2.links import forbidden

ANSWER_BYTES = 32 * 2**20
"""Size of an answer, unpacked; a page of a hundred items of the wordiest catalogue has 9 MB."""
ANSWER_SECONDS = 300.0
"""Seconds from an answer's first byte to its last."""


class BoundedStacIO(StacApiIO):
    """Pystac's way to a server, with bounds.

    Args:
        home: the catalogue's address. Its links and redirects may lead elsewhere on the network, but not to where
            :func:`~spacex.sentinel2.links.forbidden` says no, and never to files of this machine.
        retries: what to do when the server is busy.
        timeout: seconds for a connection and between two bytes.
    """

    def __init__(self, home: str, retries: Retry, timeout: tuple[float, float]) -> None:
        super().__init__(max_retries=retries, timeout=timeout)
        self._home = home
        self._pages: set[str] = set()
        self.session.stream = True  # so that nothing is read before `_read` does
        self.session.hooks["response"].append(self._read)

    def read_text(self, source: Any, *args: Any, **kwargs: Any) -> str:
        """Also refuses a page that was read before, whose `next` would lead round in a circle."""
        if isinstance(source, Link) and source.rel == "next":
            page = json.dumps(source.to_dict(), sort_keys=True, default=str)
            if page in self._pages:
                raise CatalogueError(f"the pages of {self._home} go round in a circle", got=str(source.href)[:200])
            self._pages.add(page)
        address = str(source.href if isinstance(source, Link) else source)
        if not address.startswith(("http://", "https://")):
            raise CatalogueError(f"the catalogue {self._home} links to no web address", got=address[:200])
        return str(super().read_text(source, *args, **kwargs))

    def request(self, href: str, *args: Any, **kwargs: Any) -> str:
        """One request, if its address is allowed."""
        self._check(href)
        return str(super().request(href, *args, **kwargs))

    def _check(self, href: str) -> None:
        why = forbidden(href.replace(" ", "%20"), self._home) if href.split("?")[0] != self._home else None
        if why is not None:
            raise CatalogueError(f"the catalogue {self._home} leads where it may not: {why}", got=href[:200])

    def _read(self, answer: Response, **_: Any) -> None:
        """Reads the body into the answer; called for redirects too, before they are followed."""
        whole = False
        watch = Timer(ANSWER_SECONDS, _hang_up, [answer])
        watch.daemon = True
        watch.start()
        body = bytearray()
        try:
            if answer.is_redirect:
                self._check(urljoin(answer.url, answer.headers["location"]))
            for piece in answer.iter_content(2**16):
                body += piece
                if len(body) > ANSWER_BYTES:
                    raise CatalogueError(
                        f"an answer of {self._home} is too large", got=f"more than {ANSWER_BYTES >> 20} MB",
                        do="Is it a STAC API?",
                    )  # fmt: skip
            whole = True
        finally:
            watch.cancel()
            if not whole:
                answer.close()
        answer._content, answer._content_consumed = bytes(body), True


def _hang_up(answer: Response) -> None:
    with suppress(Exception):  # it may just have ended
        answer.raw.shutdown()
