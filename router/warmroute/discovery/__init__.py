"""Workers come and go by themselves: sources say which there should be, one reconciler brings that about.

    found        what a source says: workers, and whether each is ready, paused or leaving
    reconcile    `Discovery`: the gateway's workers follow what all sources say, and people's hands go first
    feed         what one source said last, and whether it is believed
    start        from settings to `Discovery`; what is wrong with them, in one line
    backoff      how long to wait after a failure
    by_file      a watched file with a list of backends
    by_dns       addresses and SRV records of a name
    by_pods      a Kubernetes Service's endpoints, or pods by label
    listwatch    the Kubernetes API's list and watch, kept alive
    objects      what a pod and an EndpointSlice say about workers

Rules kept. A source that fails removes nothing. A worker that vanishes is drained first. Discovery touches
only workers that it added itself, and none that a person has taken in hand. docs/discovery.md has them all.
"""
