"""Every metric of the router: its name, its labels, its meaning. What is counted is `series`.

family      one metric family and the page's text: written by us, see there why
snapshot    what is taken on the event loop, so that the rest may be done in any thread
requests    by model and worker
workers     by worker
loads       what engines say of theirs
own         the router itself: decisions, connections, memory, sessions, prefixes
kv_events   what engines tell of their caches
admission   who is let in, waits or is refused, where there are limits
tokens      prompts as token ids, where engines tell what they hold
watching    what watches beside it: shadow policies
merged      the pages of many engines as one
finding     the sources that workers are found by
collector   all of them, in the order of docs/metrics.md
"""

from warmroute.metrics.collector import RouterCollector
from warmroute.metrics.family import Family, page

__all__ = ["Family", "RouterCollector", "page"]
