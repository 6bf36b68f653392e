"""What clients and operators see of accounts and keys."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from stenobird.ports import KeyMode, KeyScope  # noqa: TC001  # pydantic reads them when the class is made

if TYPE_CHECKING:
    from stenobird.ports import KeyRecord


class KeyView(BaseModel):
    """A key as its owner's lists show it: never the key itself."""

    model_config = ConfigDict(frozen=True)

    id: str
    name: str
    account_id: str
    mode: KeyMode
    scope: KeyScope
    last_four_chars: str
    is_valid: bool
    created_at: datetime

    @classmethod
    def of(cls, record: KeyRecord) -> KeyView:
        """Return the view of a stored key."""
        return cls(
            id=record.id,
            name=record.name,
            account_id=record.account_id,
            mode=record.mode,
            scope=record.scope,
            last_four_chars=record.last_four_chars,
            is_valid=record.is_valid,
            created_at=datetime.fromtimestamp(int(record.created_at), UTC),
        )


class CreatedKeyView(KeyView):
    """A key just made: the only time that `key` is shown."""

    key: str
