"""The one exception that is the user's to fix."""

from __future__ import annotations


class UserError(Exception):
    """A mistake of the user's, said in one line: what, the value, what to do."""
