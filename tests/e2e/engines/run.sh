#!/bin/bash
# Runs the end-to-end tests against real engines; the tests start and stop the engines themselves.
#
#   run.sh [PYTEST OPTIONS]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../../.."

WARMROUTE_E2E=$(tests/e2e/engines/setup.sh .venv/bin/python)
export WARMROUTE_E2E
# Engines take minutes where a machine is busy: the stacks of a test that waits for one are of no use.
exec .venv/bin/python -m pytest -m e2e -o faulthandler_timeout=600 tests/e2e "$@"
