"""The flags of sglang-router 0.3.2, as its argparse lists them: name, values, default."""

from __future__ import annotations

from typing import Final

from warmroute.config.peers.catalogue import Peer, spellings

_FLAGS: Final = """\
--host 1 0.0.0.0
--port 1 30000
--worker-urls * -
--policy 1 cache_aware
--prefill-policy 1 -
--decode-policy 1 -
--cache-threshold 1 0.3
--balance-abs-threshold 1 64
--balance-rel-threshold 1 1.5
--bucket-adjust-interval-secs 1 5
--eviction-interval-secs 1 60
--max-tree-size 1 67108864
--max-idle-secs 1 14400
--assignment-mode 1 random
--max-payload-size 1 536870912
--dp-aware 0 -
--enable-igw 0 -
--mini-lb 0 -
--pd-disaggregation 0 -
--prefill +… -
--decode 1… -
--worker-startup-timeout-secs 1 1800
--worker-startup-check-interval 1 30
--log-dir 1 -
--log-level 1 info
--service-discovery 0 -
--selector + -
--service-discovery-port 1 80
--service-discovery-namespace 1 -
--prefill-selector + -
--decode-selector + -
--prometheus-port 1 29000
--prometheus-host 1 0.0.0.0
--prometheus-duration-buckets + -
--request-id-headers * -
--request-timeout-secs 1 1800
--shutdown-grace-period-secs 1 180
--cors-allowed-origins * -
--max-concurrent-requests 1 -1
--queue-size 1 100
--queue-timeout-secs 1 60
--rate-limit-tokens-per-second 1 -
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
--disable-health-check 0 -
--model-path 1 -
--tokenizer-path 1 -
--chat-template 1 -
--tokenizer-cache-enable-l0 0 -
--tokenizer-cache-l0-max-entries 1 10000
--tokenizer-cache-enable-l1 0 -
--tokenizer-cache-l1-max-memory 1 52428800
--reasoning-parser 1 -
--tool-call-parser 1 -
--mcp-config-path 1 -
--backend 1 sglang
--history-backend 1 memory
--oracle-wallet-path 1 -
--oracle-tns-alias 1 -
--oracle-connect-descriptor 1 -
--oracle-username 1 -
--oracle-password 1 -
--oracle-pool-min 1 1
--oracle-pool-max 1 16
--oracle-pool-timeout-secs 1 30
--postgres-db-url 1 -
--postgres-pool-max 1 16
--redis-url 1 -
--redis-pool-max 1 16
--redis-retention-days 1 30
--client-cert-path 1 -
--client-key-path 1 -
--ca-cert-paths * -
--tls-cert-path 1 -
--tls-key-path 1 -
--enable-trace 0 -
--otlp-traces-endpoint 1 localhost:4317
--api-key 1 -
--control-plane-api-keys * -
--control-plane-audit-enabled 0 -
--jwt-issuer 1 -
--jwt-audience 1 -
--jwt-jwks-uri 1 -
--jwt-role-mapping * -
"""

SGLANG_ROUTER: Final = Peer("sglang-router", "0.3.2", spellings(_FLAGS))
