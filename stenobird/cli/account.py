"""`stenobird account`, `credits` and `keys`: the accounts and API keys of this machine's database."""

from __future__ import annotations

import csv
import json
import sys
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import click

from stenobird.accounts.schemas import midnight, parse_date
from stenobird.bodies import utc_text
from stenobird.cli.local import with_storage
from stenobird.cli.output import print_table
from stenobird.errors import KeyNotFound

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from stenobird.accounts.service import AccountService
    from stenobird.ports import AccountRecord, AuditEntry, KeyRecord, WalletRecord

_TIERS = click.Choice(["free", "premium", "platinum"])
_BILLING = click.Choice(["operator", "metered", "prepaid"])
CSV_PAGE = 1000

_ACCOUNT = ("id", "name", "email", "tier", "billing", "state")
_KEY = ("id", "name", "account_id", "mode", "scope", "last_four_chars", "is_valid")

T = TypeVar("T")


@click.group()
def account() -> None:
    """Create, change, audit and delete accounts."""


@account.command()
@click.option("--name", required=True, help="Name of the owner.")
@click.option("--email", help="E-mail address of the owner.")
@click.option("--tier", type=_TIERS, default="premium", show_default=True)
@click.option(
    "--billing",
    type=_BILLING,
    default="operator",
    show_default=True,
    help="operator: you bear the cost; prepaid: credits only; metered: Stripe bills the rest.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def create(name: str, email: str | None, tier: Any, billing: Any, *, as_json: bool) -> None:
    """Create an account and print its id; "stenobird keys create --account ID" makes a key for it."""
    made = _run(lambda accounts: accounts.create(name, email=email, tier=tier, billing=billing))
    click.echo(json.dumps(_row(made, _ACCOUNT)) if as_json else made.id)


@account.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
def list_accounts(*, as_json: bool) -> None:
    """List accounts, except deleted ones."""
    records = _run(lambda accounts: accounts.list())
    if as_json:
        click.echo(json.dumps([_row(record, _ACCOUNT) for record in records]))
        return
    print_table(
        ("id", "name", "e-mail", "tier", "billing", "state", "created"),
        ([str(value or "") for value in _row(record, _ACCOUNT).values()] for record in records),
    )


@account.command()
@click.argument("account_id")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def show(account_id: str, *, as_json: bool) -> None:
    """Show an account with its wallet."""

    async def look(accounts: AccountService) -> tuple[AccountRecord, WalletRecord]:
        return await accounts.get(account_id), await accounts.wallet(account_id, limit=0)

    record, wallet = _run(look)
    row = _row(record, _ACCOUNT) | {"units": wallet.units, "reserved_units": wallet.reserved_units}
    if as_json:
        click.echo(json.dumps(row))
        return
    for name, value in row.items():
        click.echo(f"{name:15} {'' if value is None else value}")


@account.command()
@click.argument("account_id")
@click.argument("new_tier", type=_TIERS, metavar="[free|premium|platinum]")
@click.option("--billing", type=_BILLING, help="Change how it is billed, too.")
def tier(account_id: str, new_tier: Any, billing: Any) -> None:
    """Change an account's tier. It applies from the next request on."""
    record = _run(lambda accounts: accounts.set_plan(account_id, tier=new_tier, billing=billing))
    click.echo(f"{record.id} is now {record.tier}, billing {record.billing}.")


@account.command()
@click.argument("account_id")
@click.option("--yes", is_flag=True, help="Don't ask for confirmation.")
def delete(account_id: str, *, yes: bool) -> None:
    """Delete an account: its name, its transcripts and their audio. Its keys stop working at once.

    Its usage stays in the ledger, without a name. The running service ends its subscription at Stripe.
    """
    record = _run(lambda accounts: accounts.get(account_id))
    if not yes:
        click.confirm(f"Delete {record.id} ({record.name}) with all its transcripts?", abort=True)

    async def delete_now(accounts: AccountService) -> int:
        await accounts.delete(account_id)
        return await accounts.sweep_deleted()

    ending = _run(delete_now)
    more = f" {ending} transcripts are still ending; the service removes them." if ending else ""
    click.echo(f"Deleted {account_id}.{more}")


@account.command()
@click.argument("account_id", required=False)
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
def audit(account_id: str | None, limit: int, *, as_json: bool) -> None:
    """Show the changes of an account (of all accounts without an id), newest first."""
    entries: Sequence[AuditEntry] = _run(lambda accounts: accounts.audit(account_id, limit=limit))
    rows = [asdict(entry) | {"created_at": utc_text(entry.created_at, "seconds")} for entry in entries]
    if as_json:
        click.echo(json.dumps(rows))
        return
    shown = ("created_at", "account_id", "action", "subject", "by")
    print_table(
        ("when", "account", "action", "subject", "by", "detail"),
        (
            (
                *(str(row[name] or "") for name in shown),
                ", ".join(f"{name}={value}" for name, value in row["detail"].items()),
            )
            for row in rows
        ),
    )


@account.command()
@click.argument("account_id")
@click.option("--from", "first", help="First day, UTC, such as 2026-01-31; default: 30 days before --to.")
@click.option("--to", "last", help="Last day, UTC, inclusive; default: today.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV with one line per job.")
def usage(account_id: str, first: str | None, last: str | None, *, as_csv: bool) -> None:
    """Show an account's usage: one line per day, or with --csv one line per job."""
    until = parse_date(last, "to") or datetime.now(UTC).date()
    since = parse_date(first, "from") or until - timedelta(days=29)
    if as_csv:
        _run(lambda accounts: _write_csv(accounts, account_id, since, until))
        return
    days, _, _ = _run(
        lambda accounts: accounts.usage(
            account_id, since=midnight(since), until=midnight(until + timedelta(days=1)), limit=1
        )
    )
    print_table(
        ("day", "transcripts", "minutes", "units", "from credits", "metered"),
        (
            list(map(str, (d.day, d.jobs, d.minutes, d.units, d.credit_units, d.metered_minutes)))
            for d in days
        ),
    )


async def _write_csv(accounts: AccountService, account_id: str, since: date, until: date) -> None:
    """Write the ledger page by page, so that memory use does not grow with it."""
    lines = csv.writer(sys.stdout, lineterminator="\n")
    names = ("units", "credit_units", "metered_minutes")
    lines.writerow(("job_id", "completed_at", "audio_seconds", "billable_minutes", *names))
    cursor: str | None = None
    while True:
        _, jobs, cursor = await accounts.usage(
            account_id,
            since=midnight(since),
            until=midnight(until + timedelta(days=1)),
            cursor=cursor,
            limit=CSV_PAGE,
        )
        for job in jobs:
            ended_at, seconds = utc_text(job.created_at, "seconds"), round(job.audio_seconds, 3)
            lines.writerow(
                (job.job_id, ended_at, seconds, job.minutes, *(getattr(job, name) for name in names))
            )
        if cursor is None:
            return


@click.group("credits")
def credits_() -> None:
    """Add credits to a wallet, and show it. One credit pays for one billable minute."""


@credits_.command()
@click.argument("account_id")
@click.argument("units", type=int)
@click.option("--reason", default="added by the operator", show_default=True, help="For the audit log.")
def add(account_id: str, units: int, reason: str) -> None:
    """Add credits to an account's wallet. To remove some: -- ACCOUNT_ID -5."""
    wallet = _run(lambda accounts: accounts.add_credits(account_id, units, reason=reason))
    click.echo(f"{account_id} now has {wallet.units} credits.")


@credits_.command("show")
@click.argument("account_id")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def show_wallet(account_id: str, *, as_json: bool) -> None:
    """Show an account's wallet: its balance, what running transcripts reserve, and its newest entries."""

    async def look(accounts: AccountService) -> WalletRecord:
        await accounts.get(account_id)
        return await accounts.wallet(account_id)

    wallet: WalletRecord = _run(look)
    if as_json:
        row = asdict(wallet)
        for entry in row["entries"]:
            entry["created_at"] = utc_text(entry["created_at"], "seconds")
        click.echo(json.dumps(row))
        return
    click.echo(f"{wallet.units} credits, {wallet.reserved_units} of them reserved")
    print_table(
        ("when", "units", "reason", "transcript"),
        (
            (utc_text(entry.created_at, "seconds"), f"{entry.units:+d}", entry.reason, entry.job_id or "")
            for entry in wallet.entries
        ),
    )


@click.group()
def keys() -> None:
    """Create, list, rotate and revoke API keys."""


@keys.command("create")
@click.option("--name", default="default", show_default=True, help="A label for the key.")
@click.option("--mode", type=click.Choice(["live", "test"]), default="live", show_default=True)
@click.option(
    "--scope", type=click.Choice(["full_access", "read_only"]), default="full_access", show_default=True
)
@click.option("--account", "account_id", help="Account id; default: the operator's own account.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def create_key(name: str, mode: Any, scope: Any, account_id: str | None, *, as_json: bool) -> None:
    """Create a key and print it once: only its SHA-256 is stored."""
    secret, record = with_storage(
        lambda storage: storage.keys.create(name=name, mode=mode, scope=scope, account_id=account_id)
    )
    _show_once(secret, record, "Send it as: Authorization: Bearer <key>", as_json=as_json)


@keys.command("list")
@click.option("--account", "account_id", help="Only this account's keys.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
def list_keys(account_id: str | None, *, as_json: bool) -> None:
    """List keys, revoked ones included."""
    records = with_storage(lambda storage: storage.keys.list(account_id))
    if as_json:
        click.echo(json.dumps([_row(record, _KEY) for record in records]))
        return
    print_table(
        ("id", "name", "account", "mode", "scope", "ends in", "valid", "created"),
        (
            (*values, "yes" if is_valid else "revoked", created_at[:10])
            for *values, is_valid, created_at in (_row(record, _KEY).values() for record in records)
        ),
    )


@keys.command()
@click.argument("key_id")
def revoke(key_id: str) -> None:
    """Revoke the key with this id; requests with it get 401 from now on."""
    if not with_storage(lambda storage: storage.keys.revoke(key_id)):
        raise _no_such_key(key_id)
    click.echo(f"Revoked {key_id}.")


@keys.command()
@click.argument("key_id")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def rotate(key_id: str, *, as_json: bool) -> None:
    """Create a key with the name, mode and scope of another one, which is revoked at once."""
    try:
        secret, record = with_storage(lambda storage: storage.keys.rotate(key_id))
    except KeyNotFound as exc:
        raise _no_such_key(key_id) from exc
    _show_once(secret, record, f"{key_id} is revoked.", as_json=as_json)


def _show_once(secret: str, record: KeyRecord, note: str, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"key": secret, **_row(record, _KEY)}))
        return
    # Only the key goes to standard output, for KEY=$(stenobird keys create).
    click.echo(secret)
    click.echo(f"Store it now: it is not shown again. Its id is {record.id}. {note}", err=True)


def _no_such_key(key_id: str) -> KeyNotFound:
    return KeyNotFound(f'There is no valid key {key_id}. "stenobird keys list" shows the ids.')


def _run(work: Callable[[AccountService], Awaitable[T]]) -> T:
    return with_storage(lambda storage: work(storage.accounts))


def _row(record: AccountRecord | KeyRecord, fields: Sequence[str]) -> dict[str, Any]:
    """Return these fields of a record, and when it was created."""
    row: dict[str, Any] = {name: getattr(record, name) for name in fields}
    return row | {"created_at": utc_text(record.created_at, "seconds")}
