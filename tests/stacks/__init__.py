"""The contract that every stack keeps, in environments of their own where stacks exclude each other: `noxfile.py`.

`contract` holds the tests, `places` opens a server and a client to it, `client_v1` and `client_v2` talk, and a module for
each stack says how the one server of these tests is made there. `child` is that server as a process of its own.
"""

import sys

if "pytest" in sys.modules:  # in a child there is none
    sys.modules["pytest"].register_assert_rewrite("stacks.contract")
