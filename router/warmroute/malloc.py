"""Keeps glibc from giving large buffers back to the kernel after every request.

By default each buffer over 128 KB is mapped anew and unmapped when freed: page faults that doubled the
cost of a large body in measurements. Where the C library is another one, nothing is done.
"""

from __future__ import annotations

import ctypes

# From malloc.h of glibc.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3

# A body, its copy and the socket's buffers of a large prompt fit below; glibc allows up to 32 MB.
_MMAP_ABOVE = 32 << 20
_TRIM_ABOVE = 64 << 20
_PAD = 4 << 20


def keep_large_buffers() -> bool:
    """Writes. Raises glibc's thresholds for this process; False where there is no glibc."""
    try:
        libc = ctypes.CDLL("libc.so.6")
        mallopt = libc.mallopt
    except (OSError, AttributeError):
        return False
    return bool(
        mallopt(_M_MMAP_THRESHOLD, _MMAP_ABOVE)
        and mallopt(_M_TRIM_THRESHOLD, _TRIM_ABOVE)
        and mallopt(_M_TOP_PAD, _PAD)
    )
