"""Where the links of a catalogue may point, and which keys may go there.

Whoever writes a catalogue writes the links, and this machine follows them. So a catalogue on the network may name
files on the network only:

======================  ========================  =================================
link                    catalogue on the network  catalogue on this machine
======================  ========================  =================================
http, https, public     yes                       yes
http, https, private    the catalogue's own host  yes, but no link-local address
s3                      yes, without keys         yes, with those of the environment
a path, ``file:``       no                        yes
anything else, /vsi…    no                        no
======================  ========================  =================================

"On this machine" is an address that resolves to the loopback interface, as the demo's does. Keys never come from the
environment of the store the cube goes to: Planetary Computer's signature is put on links to its blob storage by
https alone, the Copernicus Data Space's keys are given to its own endpoint alone
(:mod:`spacex.sentinel2.catalogue_profiles`).
"""

from __future__ import annotations

import re
import socket
import time
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import urlsplit

Address = IPv4Address | IPv6Address

KEPT = 300.0
"""Seconds a name's addresses are remembered."""

_WEB = re.compile(r"https?://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:\d{1,5})?([/?][!-\[\]-~]*)?")
"""A plain address: no user name, no backslash, no blank, nothing that two parsers may read in two ways."""


def forbidden(href: str, home: str) -> str | None:
    """Why a link may not be followed, in words; None if it may.

    Args:
        href: the link, unsigned.
        home: address of the catalogue it is from.
    """
    scheme = href.split("://")[0].lower() if "://" in href else ""
    if scheme in ("", "file"):
        return _forbidden_path(href, home)
    if scheme == "s3":
        return None
    if scheme not in ("http", "https"):
        return f"{scheme} links are not read"
    if not _WEB.fullmatch(href):
        return "not a plain http address"
    host = str(urlsplit(href).hostname)
    return None if host == urlsplit(home).hostname else _forbidden_host(host, home)


def is_local(home: str) -> bool:
    """Whether a catalogue is served on this machine, so that its author is its user."""
    host = urlsplit(home).hostname
    found = addresses(host) if host else ()
    return bool(found) and all(address.is_loopback for address in found)


def _forbidden_path(href: str, home: str) -> str | None:
    if href.startswith("/vsi") or "<" in href:
        return "GDAL's own file systems are not read"
    return None if is_local(home) else "a catalogue on the network may not name files of this machine"


def _forbidden_host(host: str, home: str) -> str | None:
    found = addresses(host)
    if any(address.is_link_local for address in found):
        return "a link-local address"
    if any(not address.is_global for address in found) and not is_local(home):
        return "a private address that is not the catalogue's own"
    return None


def addresses(host: str) -> tuple[Address, ...]:
    """What a host name stands for; nothing if it cannot be told here (then nobody, or a proxy, knows)."""
    return _resolve(host, time.monotonic() // KEPT)


@lru_cache(maxsize=1024)
def _resolve(host: str, _when: float) -> tuple[Address, ...]:
    # failures are kept too: without a name server each takes seconds
    try:
        found = {str(entry[4][0]).split("%")[0] for entry in socket.getaddrinfo(host, None)}
    except OSError:
        return ()
    return tuple(_plain(ip_address(text)) for text in sorted(found))


def _plain(address: Address) -> Address:
    # ::ffff:10.0.0.1 is 10.0.0.1 in disguise
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
