"""An executor for tests that want their handlers run before the call returns that caused them."""

from __future__ import annotations

from collections.abc import Callable


class InlineExecutor:
    """Runs what it is given right here."""

    def submit(self, function: Callable[[], None]) -> None:
        function()
