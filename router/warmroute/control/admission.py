"""Whether a worker may be added by the admin API: what `config.allowed` says of its URL, and of its name.

A name is asked for, once, where no list of allowed workers is set: one that leads to an address where clouds
hand out credentials is as good as that address. It is no fence against somebody who can change the name's
answer later; a list is.
"""

from __future__ import annotations

import asyncio
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from warmroute.config.allowed import CREDENTIALS, address_of, hands_out_credentials, refusal
from warmroute.control.errors import Refused
from warmroute.ranks import split_rank
from warmroute.wire.replies import RouterError

if TYPE_CHECKING:
    from warmroute.gateway import Gateway

# A name that is not known yet may be added: its worker may come up later.
_LOOKUP_S: Final = 2.0


async def check_allowed(gateway: Gateway, url: str) -> None:
    """Reads. Raises Refused."""
    patterns = gateway.settings.worker_allow
    why = refusal(url, patterns)
    if (
        why is None
        and not patterns
        and await _leads_to_credentials(urlsplit(split_rank(url)[0]).hostname or "")
    ):
        why = f"{url}: {CREDENTIALS}"
    if why is not None:
        raise Refused(RouterError(403, "worker_not_allowed", why, param="url"))


async def _leads_to_credentials(host: str) -> bool:
    if address_of(host) is not None:
        return False  # it was looked at
    try:
        async with asyncio.timeout(_LOOKUP_S):
            found = await asyncio.get_running_loop().getaddrinfo(host, None)
    except (OSError, TimeoutError, UnicodeError):
        return False
    addresses = (ip_address(str(entry[4][0]).partition("%")[0]) for entry in found)
    return any(hands_out_credentials(address) for address in addresses)
