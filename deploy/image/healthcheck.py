"""Whether the process in this container serves: exit code 0 or 1, and the reason on standard error.

    python healthcheck.py          the router, at ROUTER_HOST and ROUTER_PORT, which the image sets
    python healthcheck.py URL      anything else, such as an emulated engine

It runs every few seconds beside the router, so it imports nothing but what it needs of the standard library.
"""

import http.client
import os
import ssl
import sys
from urllib.parse import urlsplit

# Below the time-out of the image's HEALTHCHECK, so that the reason is told.
TIMEOUT_S = 4.0

# An address that means "all of them" cannot be connected to on every system.
LOOPBACKS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 -- a name, nothing is bound


def router_url() -> str:
    """Where the router of this container listens. Raises KeyError outside of the image."""
    host = LOOPBACKS.get(os.environ["ROUTER_HOST"], os.environ["ROUTER_HOST"])
    scheme = "https" if os.environ.get("ROUTER_TLS_CERT") else "http"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{os.environ['ROUTER_PORT']}/liveness"


def main() -> int:
    """The exit code."""
    url = sys.argv[1] if len(sys.argv) > 1 else router_url()
    parts = urlsplit(url)
    connection: http.client.HTTPConnection
    if parts.scheme == "https":  # it asks itself: the certificate is for the name that clients use
        anyone = ssl.create_default_context()
        anyone.check_hostname, anyone.verify_mode = False, ssl.CERT_NONE
        connection = http.client.HTTPSConnection(
            parts.hostname or "", parts.port, timeout=TIMEOUT_S, context=anyone
        )
    else:
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", parts.path)
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        print(f"{url}: {error}", file=sys.stderr)
        return 1
    finally:
        connection.close()
    if not 200 <= status < 300:
        print(f"{url}: status {status}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
