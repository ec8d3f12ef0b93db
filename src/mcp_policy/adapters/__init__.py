"""Enforcement points for the stacks that serve tools; each needs the extra of its name.

An adapter translates and never decides: calls and listings go to the one engine, and a refusal comes back in the
stack's own form.
"""
