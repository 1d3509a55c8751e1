"""Requests to a STAC API that may be broken or hostile: every answer is bounded in bytes, seconds and addresses."""

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
from spacex.sentinel2.links import disallowed_reason

ANSWER_BYTES = 32 * 2**20
"""Maximum size of an answer, unpacked; a page of a hundred items of the wordiest catalogue has 9 MB."""
ANSWER_SECONDS = 300.0
"""Maximum time from an answer's first byte to its last."""


class BoundedStacIO(StacApiIO):
    """pystac-client's connection to a server, with bounds.

    Links and redirects may lead elsewhere on the network, but nowhere that
    :func:`~spacex.sentinel2.links.disallowed_reason` refuses, and never to files of this machine.
    """

    def __init__(self, root_url: str, retries: Retry, timeout: tuple[float, float]) -> None:
        super().__init__(max_retries=retries, timeout=timeout)
        self._root_url = root_url
        self._pages: set[str] = set()
        self.session.stream = True  # so that nothing is read before `_read_body` does
        self.session.hooks["response"].append(self._read_body)

    def read_text(self, source: Any, *args: Any, **kwargs: Any) -> str:
        """Refuse what is no web address, and a `next` page that was read before, which would never end."""
        if isinstance(source, Link) and source.rel == "next":
            page = json.dumps(source.to_dict(), sort_keys=True, default=str)
            if page in self._pages:
                raise CatalogueError(f"the pages of {self._root_url} go round in a circle", got=str(source.href)[:200])
            self._pages.add(page)
        address = str(source.href if isinstance(source, Link) else source)
        if not address.startswith(("http://", "https://")):
            raise CatalogueError(f"the catalogue {self._root_url} links to no web address", got=address[:200])
        return str(super().read_text(source, *args, **kwargs))

    def request(self, href: str, *args: Any, **kwargs: Any) -> str:
        """One request, if its address is allowed."""
        self._check(href)
        return str(super().request(href, *args, **kwargs))

    def _check(self, href: str) -> None:
        if href.split("?")[0] == self._root_url:
            return
        if (why := disallowed_reason(href.replace(" ", "%20"), self._root_url)) is not None:
            raise CatalogueError(f"the catalogue {self._root_url} leads where it may not: {why}", got=href[:200])

    def _read_body(self, answer: Response, **_: Any) -> None:
        """Read the body into the answer; called for redirects too, before they are followed."""

        def disconnect() -> None:
            with suppress(Exception):  # the answer may just have ended
                answer.raw.shutdown()

        # the timeout of requests is per byte: a server that sends one now and then would never reach it
        timer = Timer(ANSWER_SECONDS, disconnect)
        timer.daemon = True
        timer.start()
        body = bytearray()
        try:
            if answer.is_redirect:
                self._check(urljoin(answer.url, answer.headers["location"]))
            for chunk in answer.iter_content(2**16):
                body += chunk
                if len(body) > ANSWER_BYTES:
                    limit = f"more than {ANSWER_BYTES >> 20} MB"
                    raise CatalogueError(
                        f"an answer of {self._root_url} is too large", got=limit, do="Is it a STAC API?"
                    )
        except BaseException:
            answer.close()
            raise
        finally:
            timer.cancel()
        answer._content, answer._content_consumed = bytes(body), True
