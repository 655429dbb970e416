"""The flags of vllm-router 0.1.17, as its argparse lists them: name, values, default."""

from __future__ import annotations

from typing import Final

from warmroute.config.peers.catalogue import Peer, spellings

_FLAGS: Final = """\
--host 1 127.0.0.1
--port 1 30000
--worker-urls * -
--enable-program-scheduling 0 -
--program-scheduling-config-json 1 -
--policy 1 cache_aware
--prefill-policy 1 -
--decode-policy 1 -
--router-temperature 1 0.0
--kv-penalty-host 1 0.8
--kv-penalty-external 1 0.6
--kv-penalty-disk 1 0.3
--kv-aware-session-affinity-ttl-secs 1 -
--kv-event-source 1… -
--kv-event-replay-source 1… -
--kv-event-block-size 1 16
--kv-event-model 1 -
--pd-kv-events 1… -
--mini-lb 0 -
--vllm-pd-disaggregation 0 -
--prefill +… -
--decode 1… -
--worker-startup-timeout-secs 1 600
--worker-startup-check-interval 1 30
--cache-threshold 1 0.3
--balance-abs-threshold 1 64
--balance-rel-threshold 1 1.5
--eviction-interval-secs 1 120
--max-tree-size 1 33554432
--max-payload-size 1 536870912
--wasm-middleware 1 -
--wasm-middleware-sha256 1 -
--wasm-middleware-route 1… -
--intra-node-data-parallel-size 1 1
--enable-igw 0 -
--api-key 1 -
--log-dir 1 -
--log-level 1 info
--service-discovery 0 -
--selector + -
--service-discovery-port 1 80
--service-discovery-namespace 1 -
--prefill-selector + -
--decode-selector + -
--vllm-discovery-address 1 -
--kv-connector 1 nixl
--prometheus-port 1 29000
--prometheus-host 1 127.0.0.1
--request-id-headers * -
--request-timeout-secs 1 1800
--retry-max-retries 1 5
--retry-initial-backoff-ms 1 50
--retry-max-backoff-ms 1 30000
--retry-backoff-multiplier 1 1.5
--retry-jitter-factor 1 0.2
--disable-retries 0 -
--cb-failure-threshold 1 10
--cb-success-threshold 1 3
--cb-timeout-duration-secs 1 60
--cb-window-duration-secs 1 120
--disable-circuit-breaker 0 -
--health-failure-threshold 1 3
--health-success-threshold 1 2
--health-check-timeout-secs 1 5
--health-check-interval-secs 1 60
--health-check-endpoint 1 /health
--max-concurrent-requests 1 32768
--queue-size 1 100
--queue-timeout-secs 1 60
--rate-limit-tokens-per-second 1 -
--cors-allowed-origins * -
"""

# In its README; its Rust binary knows it, its Python launcher does not.
DOCUMENTED: Final = """\
--api-key-validation-urls * -
"""

VLLM_ROUTER: Final = Peer("vllm-router", "0.1.17", spellings(_FLAGS + DOCUMENTED))
