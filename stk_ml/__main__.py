"""``python -m stk_ml`` is ``stk-ml``."""

from __future__ import annotations

import sys

from stk_ml.cli.app import main

sys.exit(main())
