"""Where the links of a catalogue may point, and which credentials may be sent there.

Whoever writes a catalogue writes the links, and this machine follows them. Therefore a catalogue on the network may
name files on the network only:

======================  ========================  =================================
link                    catalogue on the network  catalogue on this machine
======================  ========================  =================================
http, https, public     yes                       yes
http, https, private    the catalogue's own host  yes, but no link-local address
s3                      yes, without keys         yes, with those of the environment
a path, ``file:``       no                        yes
anything else, /vsi…    no                        no
======================  ========================  =================================

A catalogue is on this machine if its host name resolves to the loopback interface, as the demo's does. Keys in the
environment belong to the store the cube is written to and are never sent to a catalogue on the network: Planetary
Computer's token is added to https links to its blob storage alone, and the Copernicus Data Space's own keys are sent to
its endpoint alone (:mod:`spacex.sentinel2.catalogue_profiles`).
"""

from __future__ import annotations

import re
import socket
import time
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import urlsplit

Address = IPv4Address | IPv6Address

DNS_CACHE_S = 300.0
"""Seconds for which the addresses of a host name are cached."""
_WEB = re.compile(r"https?://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:\d{1,5})?([/?][!-\[\]-~]*)?")
"""A plain address: no user name, no backslash, no blank, nothing that two parsers may read in two ways."""


def disallowed_reason(href: str, root_url: str) -> str | None:
    """Why a link, unsigned, of the catalogue at `root_url` may not be followed; None if it may."""
    scheme = href.split("://")[0].lower() if "://" in href else ""
    if scheme in ("", "file"):
        if href.startswith("/vsi") or "<" in href:
            return "GDAL's own file systems are not read"
        return None if is_local(root_url) else "a catalogue on the network may not name files of this machine"
    if scheme == "s3":
        return None
    if scheme not in ("http", "https"):
        return f"{scheme} links are not read"
    if not _WEB.fullmatch(href):
        return "not a plain http address"
    host = str(urlsplit(href).hostname)
    if host == urlsplit(root_url).hostname:
        return None
    # every address of the name counts: which one GDAL will connect to is not known here
    targets = addresses(host)
    if any(address.is_link_local for address in targets):
        return "a link-local address"
    if any(not address.is_global for address in targets) and not is_local(root_url):
        return "a private address that is not the catalogue's own"
    return None


def is_local(root_url: str) -> bool:
    """Whether a catalogue is served on this machine, so that its author is its user."""
    host = urlsplit(root_url).hostname
    targets = addresses(host) if host else ()
    return bool(targets) and all(address.is_loopback for address in targets)


def addresses(host: str) -> tuple[Address, ...]:
    """The IP addresses of a host name; empty if it cannot be resolved here (a proxy may still resolve it)."""
    return _resolve(host, time.monotonic() // DNS_CACHE_S)


@lru_cache(maxsize=1024)
def _resolve(host: str, _period: float) -> tuple[Address, ...]:
    # failures are cached too: without a name server each takes seconds
    try:
        names = {str(entry[4][0]).split("%")[0] for entry in socket.getaddrinfo(host, None)}
    except OSError:
        return ()
    parsed = map(ip_address, sorted(names))
    # ::ffff:10.0.0.1 is 10.0.0.1 in disguise
    return tuple((isinstance(address, IPv6Address) and address.ipv4_mapped) or address for address in parsed)
