"""`python -m mcp_policy` is `mcp-policy`."""

import sys

from .cli import main

sys.exit(main())
