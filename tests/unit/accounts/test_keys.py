"""The form of a key, and who a request is from."""

from __future__ import annotations

import json
import re
import zlib
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select

from stenobird.accounts import keys
from stenobird.accounts.keys import OPERATOR_ACCOUNT, KeyService
from stenobird.accounts.schemas import CreatedKeyView, KeyView
from stenobird.errors import InvalidAPIKey, InvalidAPIKeyMode, InvalidRequest
from stenobird.ports import Caller, KeyMode
from stenobird.storage.account_store import AccountStore
from stenobird.storage.schema import metadata
from tests.support.databases import sqlite_database

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from stenobird.accounts.keys import KeyFamily
    from stenobird.storage.engine import Database

pytestmark = pytest.mark.anyio


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with sqlite_database(tmp_path) as database:
        yield database


@pytest.fixture
def service(database: Database) -> KeyService:
    return KeyService(AccountStore(database))


@pytest.mark.parametrize("mode", ["live", "test"])
@pytest.mark.parametrize("family", ["sb", "alef_sk"])
def test_a_minted_key_has_thirty_digits_and_their_checksum(mode: KeyMode, family: KeyFamily) -> None:
    key = keys.mint(mode, family=family)
    match = re.fullmatch(rf"{family}_{mode}_([0-9A-Za-z]{{30}})([0-9A-Za-z]{{6}})", key.secret)
    assert match is not None
    number = 0
    for digit in match[2]:
        number = number * 62 + keys.BASE62.index(digit)
    assert number == zlib.crc32(match[1].encode())
    assert keys.parse(key.secret) == key


def test_random_digits_are_equally_likely() -> None:
    digits = bytes(range(256)).translate(keys._DIGIT_OF_BYTE, keys._UNUSED_BYTES).decode()
    assert Counter(digits) == dict.fromkeys(keys.BASE62, 4)
    assert [len(keys.random_base62(length)) for length in (1, 22, 32)] == [1, 22, 32]


def test_a_key_keeps_its_secret_out_of_its_repr() -> None:
    key = keys.mint("live")
    assert key.body not in repr(key)
    assert key.body not in str(key)


def test_one_wrong_digit_is_no_key() -> None:
    secret = keys.mint("live").secret
    for place in range(len("sb_live_"), len(secret)):
        digit = "a" if secret[place] != "a" else "b"
        assert keys.parse(secret[:place] + digit + secret[place + 1 :]) is None


@pytest.mark.parametrize(
    "other", ["", "sb_live_", "sk_live_" + "a" * 36, "sb_live_" + "é" * 36, "sb_prod_" + "a" * 36]
)
def test_other_text_is_no_key(other: str) -> None:
    assert keys.parse(other) is None


async def test_a_key_made_without_an_account_is_the_operators(service: KeyService) -> None:
    secret, record = await service.create()
    assert record.account_id == OPERATOR_ACCOUNT
    assert record.last_four_chars == secret[-4:]
    assert await service.authenticate(f"Bearer {secret}") == Caller(
        OPERATOR_ACCOUNT, record.id, "live", "full_access", "premium"
    )
    _, second = await service.create(name="two", mode="test", scope="read_only")
    # Keys are listed by age, which may be the same to the millisecond.
    assert {key.id for key in await service.list()} == {record.id, second.id}
    assert (second.mode, second.scope) == ("test", "read_only")


async def test_a_request_without_a_header_is_anonymous(service: KeyService) -> None:
    assert await service.authenticate(None) is None


async def test_the_scheme_is_read_in_any_case(service: KeyService) -> None:
    secret, _ = await service.create()
    for header in (f"bearer {secret}", f"BEARER  {secret} "):
        assert await service.authenticate(header) is not None


async def test_what_is_no_valid_key_is_refused(service: KeyService) -> None:
    secret, _ = await service.create()
    for header in (
        "",
        "Bearer",
        "Bearer ",
        secret,
        f"Basic {secret}",
        f"Bearer {secret} {secret}",
        f"Bearer {secret[:-1]}",
        f"Bearer {keys.mint('live').secret}",
        "Bearer \x00",
    ):
        with pytest.raises(InvalidAPIKey) as refused:
            await service.authenticate(header)
        assert (refused.value.code, refused.value.http_status) == ("invalid_api_key", 401)
        assert secret not in str(refused.value)


async def test_either_family_of_prefix_is_accepted_but_not_the_other_mode(service: KeyService) -> None:
    secret, _ = await service.create()
    body = secret.removeprefix("sb_live_")
    assert await service.authenticate(f"Bearer alef_sk_live_{body}") is not None
    for prefix in ("sb_test_", "alef_sk_test_"):
        with pytest.raises(InvalidAPIKeyMode) as refused:
            await service.authenticate(f"Bearer {prefix}{body}")
        assert refused.value.body()["error"] == "invalid_api_key"


async def test_a_revoked_key_is_refused_and_stays_listed(service: KeyService) -> None:
    secret, record = await service.create()
    assert not await service.revoke(record.id, account_id="acct_other")
    assert await service.authenticate(f"Bearer {secret}") is not None
    assert await service.revoke(record.id)
    with pytest.raises(InvalidAPIKey):
        await service.authenticate(f"Bearer {secret}")
    assert [key.is_valid for key in await service.list()] == [False]
    assert not await service.revoke("key_none")


async def test_a_key_of_a_missing_account_or_without_a_name_is_refused(service: KeyService) -> None:
    for changes in ({"account_id": "acct_none"}, {"name": " "}, {"name": "x" * 201}):
        with pytest.raises(InvalidRequest):
            await service.create(**changes)  # type: ignore[arg-type]


async def test_the_key_is_nowhere_in_the_database(service: KeyService, database: Database) -> None:
    secret, _ = await service.create()
    body = secret.removeprefix("sb_live_")
    async with database.read() as connection:
        rows = [
            str(row) for table in metadata.sorted_tables for row in await connection.execute(select(table))
        ]
    stored = "".join(rows)
    assert "acct_operator" in stored
    assert body not in stored
    assert body[:30] not in stored


async def test_views_show_everything_but_the_key(service: KeyService) -> None:
    secret, record = await service.create(name="laptop")
    view = json.loads(KeyView.model_validate(record).encode())
    assert (view["name"], view["last_four_chars"], view["is_valid"]) == ("laptop", secret[-4:], True)
    assert view["created_at"].endswith("Z")
    assert "key" not in view
    assert CreatedKeyView(**vars(KeyView.model_validate(record)), key=secret).key == secret
