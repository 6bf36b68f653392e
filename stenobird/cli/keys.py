"""`stenobird keys`: create, list, rotate and revoke API keys in this machine's database."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from stenobird.bodies import utc_text
from stenobird.cli.local import with_storage
from stenobird.cli.output import print_table
from stenobird.errors import KeyNotFound

if TYPE_CHECKING:
    from stenobird.ports import KeyRecord


@click.group()
def keys() -> None:
    """Create, list, rotate and revoke API keys."""


@keys.command()
@click.option("--name", default="default", show_default=True, help="A label for the key.")
@click.option("--mode", type=click.Choice(["live", "test"]), default="live", show_default=True)
@click.option(
    "--scope", type=click.Choice(["full_access", "read_only"]), default="full_access", show_default=True
)
@click.option("--account", "account_id", help="Account id; default: the operator's own account.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def create(name: str, mode: Any, scope: Any, account_id: str | None, *, as_json: bool) -> None:
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
        click.echo(json.dumps([_public(record) for record in records]))
        return
    shown = ("id", "name", "account_id", "mode", "scope", "last_four_chars")
    print_table(
        ("id", "name", "account", "mode", "scope", "ends in", "valid", "created"),
        (
            (*(row[name] for name in shown), "yes" if row["is_valid"] else "revoked", row["created_at"][:10])
            for row in map(_public, records)
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
        click.echo(json.dumps({"key": secret, **_public(record)}))
        return
    # Only the key goes to standard output, for KEY=$(stenobird keys create).
    click.echo(secret)
    click.echo(f"Store it now: it is not shown again. Its id is {record.id}. {note}", err=True)


def _no_such_key(key_id: str) -> KeyNotFound:
    return KeyNotFound(f'There is no valid key {key_id}. "stenobird keys list" shows the ids.')


def _public(record: KeyRecord) -> dict[str, Any]:
    fields = ("id", "name", "account_id", "mode", "scope", "last_four_chars", "is_valid")
    row: dict[str, Any] = {name: getattr(record, name) for name in fields}
    return row | {"created_at": utc_text(record.created_at, "seconds")}
