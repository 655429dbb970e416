"""OpenTelemetry: one span per inference request, with the decision in it. Optional: extra `otel`.

    context   the trace that a client is in, as its header fields say it (W3C Trace Context); no library
    export    spans on their way to the collector: bounded, counted, never waited for
    spans     the observer that makes a span of a request's moments

Imported where tracing is switched on; only `context` is needed without it.
"""
