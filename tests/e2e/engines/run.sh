#!/bin/bash
# Runs the end-to-end tests against real engines; the tests start and stop the engines themselves.
#
#   run.sh [PYTEST OPTIONS]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../../.."

WARMROUTE_E2E=$(tests/e2e/engines/setup.sh .venv/bin/python)
export WARMROUTE_E2E
exec .venv/bin/python -m pytest -m e2e tests/e2e "$@"
