"""The explorer: what tools can do and what a policy does with them, in a browser, and a builder for the policy."""
