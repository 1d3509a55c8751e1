"""Where the links of a catalogue may point, and which credentials may be sent there.

Whoever writes a catalogue writes the links, and this machine follows them. Therefore only a list of items that is
itself a file of this machine may name such files:

======================  ========================  =================================
link                    catalogue on a server     list of items on this machine
======================  ========================  =================================
http, https, public     yes                       yes
http, https, private    the catalogue's own host  yes, but no link-local address
s3                      yes, without keys         yes, with those of the environment
a path, ``file:``       no                        yes
anything else, /vsi…    no                        no
======================  ========================  =================================

A server on the loopback interface is a server like others: its port may lead to another machine, and whoever may open
a port here need not be the one who asks for a map. Keys in the environment belong to the store the cube is written to
and are never sent to what a server names: Planetary Computer's token is added to https links to its blob storage alone,
and the Copernicus Data Space's own keys are sent to its endpoint alone (:mod:`spacex.sentinel2.catalogue_profiles`).
"""

from __future__ import annotations

import re
import socket
import time
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import urlsplit

from spacex.storage import local_path

Address = IPv4Address | IPv6Address

DNS_CACHE_S = 300.0
"""Seconds for which the addresses of a host name are cached."""
_WEB = re.compile(r"https?://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:\d{1,5})?([/?][!-\[\]-~]*)?")
"""A plain address: no user name, no backslash, no blank, nothing that two parsers may read in two ways."""


def disallowed_reason(href: str, root_url: str) -> str | None:
    """Why a link, unsigned, of a catalogue may not be followed; None if it may.

    `root_url` is the catalogue's address, or the file of the list of items.
    """
    scheme = href.split("://")[0].lower() if "://" in href else ""
    if scheme in ("", "file"):
        if href.startswith("/vsi") or "<" in href:
            return "GDAL's own file systems are not read"
        return None if is_local(root_url) else "a server may not name files of this machine"
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
    """Whether a catalogue is a file of this machine, so that its user has chosen it."""
    return bool(root_url) and local_path(root_url) is not None


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
