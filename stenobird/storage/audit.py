"""The audit log: one row for each change of an account, a key or a wallet, in the commit of the change."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from sqlalchemy import insert

from stenobird.storage.schema import audit, db_now

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection


async def note(
    connection: AsyncConnection,
    account_id: str | None,
    action: str,
    subject: str,
    *,
    by: str,
    **detail: Any,
) -> None:
    """Record that `by` (a key's id, or `operator`) did `action` to `subject`; `detail` holds no secrets."""
    await connection.execute(
        insert(audit).values(
            id=f"aud_{secrets.token_hex(12)}",
            account_id=account_id,
            action=action,
            subject=subject,
            detail={"by": by, **detail},
            created_at=db_now(),
        )
    )
