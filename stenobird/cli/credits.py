"""`stenobird credits`: the wallets of this machine's database."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import click

from stenobird.accounts.schemas import iso_time
from stenobird.bootstrap import open_storage
from stenobird.cli.output import print_table
from stenobird.config import Settings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from stenobird.accounts.service import AccountService
    from stenobird.ports import WalletRecord


@click.group("credits")
def credits_() -> None:
    """Add to a wallet, and show it. One credit pays for one billable minute."""


@credits_.command()
@click.argument("account_id")
@click.argument("units", type=int)
@click.option("--reason", default="added by the operator", show_default=True, help="For the audit log.")
def add(account_id: str, units: int, reason: str) -> None:
    """Add credits to an account's wallet; to take some back: -- ACCOUNT_ID -5."""
    wallet = _run(lambda accounts: accounts.add_credits(account_id, units, reason=reason))
    click.echo(f"{account_id} has {wallet.units} credits now.")


@credits_.command()
@click.argument("account_id")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def show(account_id: str, *, as_json: bool) -> None:
    """Show an account's wallet: its balance, what running transcripts reserve, and its newest entries."""

    async def look(accounts: AccountService) -> WalletRecord:
        await accounts.get(account_id)
        return await accounts.wallet(account_id)

    wallet: WalletRecord = _run(look)
    if as_json:
        entries = [
            {
                "units": entry.units,
                "reason": entry.reason,
                "job_id": entry.job_id,
                "created_at": iso_time(entry.created_at),
            }
            for entry in wallet.entries
        ]
        click.echo(
            json.dumps({"units": wallet.units, "reserved_units": wallet.reserved_units, "entries": entries})
        )
        return
    click.echo(f"{wallet.units} credits, {wallet.reserved_units} of them reserved")
    print_table(
        ("when", "units", "reason", "transcript"),
        (
            (iso_time(entry.created_at), f"{entry.units:+d}", entry.reason, entry.job_id or "")
            for entry in wallet.entries
        ),
    )


def _run(work: Callable[[AccountService], Awaitable[WalletRecord]]) -> Any:
    async def run() -> WalletRecord:
        async with open_storage(Settings()) as storage:
            return await work(storage.accounts)

    return asyncio.run(run())
