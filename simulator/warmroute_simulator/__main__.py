"""`python -m warmroute_simulator` is the `simulator` command."""

from __future__ import annotations

import sys

from warmroute_simulator.cli import main

sys.exit(main())
