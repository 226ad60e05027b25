"""What an engine does that the model of a database leaves out."""

from __future__ import annotations


class LeftOut:
    async def reload(self, parameters: dict[str, str], hba: tuple[str, ...]) -> None:
        """Users have no settings."""

    async def close(self) -> None:
        """There are no connections."""
