"""Whether an account may have one more job done."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pytest

from stenobird.accounts.service import admit_job, check_plan
from stenobird.errors import BillingFailed, InsufficientCredits, InvalidAPIKeyUser, PlanDowngraded
from stenobird.ports import AccountRecord, Caller

if TYPE_CHECKING:
    from stenobird.ports import AccountBilling, AccountState, Mode, Tier

pytestmark = pytest.mark.anyio

CALLER = Caller("acct_1", "key_1", "live", "full_access", "premium")


def standing(
    *,
    tier: Tier = "premium",
    state: AccountState = "active",
    billing: AccountBilling = "metered",
    units: int = 0,
) -> tuple[AccountRecord, int]:
    return AccountRecord("acct_1", "A", tier, 0.0, state=state, billing=billing), units


@dataclass
class Standings:
    known: dict[str, tuple[AccountRecord, int]] = field(default_factory=dict)
    asked: int = 0

    async def standing(self, account_id: str) -> tuple[AccountRecord, int] | None:
        self.asked += 1
        return self.known.get(account_id)


async def refuse(_caller: Caller, _mode: Mode) -> None:
    raise BillingFailed


@pytest.mark.parametrize("mode", ["preview", "test"])
async def test_what_is_free_is_not_asked_about(mode: Mode) -> None:
    standings = Standings()
    assert await admit_job(standings.standing, [refuse], {}, CALLER, mode) is None
    assert standings.asked == 0


async def test_an_objection_comes_before_the_credits() -> None:
    standings = Standings({"acct_1": standing(billing="prepaid")})
    with pytest.raises(BillingFailed):
        await admit_job(standings.standing, [refuse], {}, CALLER, "full")


@pytest.mark.parametrize(("units", "admitted"), [(1, True), (0, False), (-3, False)])
async def test_a_prepaid_account_needs_a_credit(units: int, admitted: bool) -> None:  # noqa: FBT001
    standings = Standings({"acct_1": standing(billing="prepaid", units=units)})
    if admitted:
        assert await admit_job(standings.standing, [], {}, CALLER, "full") is None
        return
    with pytest.raises(InsufficientCredits) as refused:
        await admit_job(standings.standing, [], {}, CALLER, "full")
    assert refused.value.http_status == 402


@pytest.mark.parametrize("billing", ["metered", "operator"])
async def test_other_accounts_need_none(billing: AccountBilling) -> None:
    standings = Standings({"acct_1": standing(billing=billing, units=-3)})
    await admit_job(standings.standing, [], {}, CALLER, "full")


async def test_the_bound_on_jobs_under_way_goes_by_the_tier_as_it_is_now() -> None:
    standings = Standings({"acct_1": standing(tier="platinum")})
    limits: dict[Tier, int] = {"premium": 5, "platinum": 10}
    assert await admit_job(standings.standing, [], limits, CALLER, "full") == 10


async def test_the_account_of_the_request_saves_a_read_but_no_check() -> None:
    caller = replace(CALLER, account=AccountRecord("acct_1", "A", "premium", 0.0))
    standings = Standings()
    assert await admit_job(standings.standing, [], {"premium": 5}, caller, "full") == 5
    with pytest.raises(BillingFailed):
        await admit_job(standings.standing, [refuse], {}, caller, "full")
    assert standings.asked == 0


async def test_an_account_deleted_after_its_key_was_checked_is_refused() -> None:
    with pytest.raises(InvalidAPIKeyUser):
        await admit_job(Standings().standing, [], {}, CALLER, "full")


@pytest.mark.parametrize(
    ("tier", "state", "allowed"),
    [
        ("premium", "active", True),
        ("platinum", "past_due", True),
        ("premium", "disputed", True),
        ("premium", "cancelled", False),
        ("free", "active", False),
    ],
)
def test_the_second_dialect_needs_a_plan_that_has_not_lapsed(
    tier: Tier,
    state: AccountState,
    allowed: bool,  # noqa: FBT001
) -> None:
    if allowed:
        check_plan(standing(tier=tier, state=state)[0])
        return
    with pytest.raises(PlanDowngraded) as refused:
        check_plan(standing(tier=tier, state=state)[0])
    assert (refused.value.http_status, refused.value.code) == (403, "plan_downgraded_api_revoked")
