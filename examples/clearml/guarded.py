"""The real `clearml-mcp` server behind a policy, for any MCP client that starts servers over stdio.

The server is not changed: it runs as a child process, and a proxy with the policy stands in front of it. Your ClearML
configuration is used as it is. In the client's configuration, the command is `python examples/clearml/guarded.py`.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from fastmcp.client.transports import StdioTransport
from fastmcp.server import create_proxy

from mcp_policy import Policy, PolicyEngine
from mcp_policy.adapters.fastmcp import PolicyMiddleware

engine = PolicyEngine(Policy.load(Path(__file__).with_name("policy.json")))
child = StdioTransport(sys.executable, ["-m", "clearml_mcp.clearml_mcp"], env=dict(os.environ))
proxy = create_proxy(child, name="clearml-mcp")
proxy.add_middleware(PolicyMiddleware(engine))

if __name__ == "__main__":
    proxy.run(show_banner=False)
