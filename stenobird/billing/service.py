"""What the web layer calls for billing: buying a key, showing it once, account state, lost keys."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import structlog

from stenobird.accounts import keys
from stenobird.billing.mail import SMTPMailer
from stenobird.billing.schemas import BillingView
from stenobird.billing.standing import BillingStanding, week_start
from stenobird.billing.worker import BillingWorker, Metering
from stenobird.errors import BillingUnavailable, InvalidRequest, MissingAPIKey, QueueBusy, StorageUnavailable
from stenobird.ports.billing import BillingAccount, Checkout, GatewayError, Mailer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from stenobird.config import Settings
    from stenobird.ports import Caller, Clock
    from stenobird.storage.billing_store import BillingStore

CLAIM_SECONDS: Final = 600.0
"""How long a claim stays valid: from the button to the key."""
RECOVERY_SECONDS: Final = 3600.0
MAX_WAITING_MAILS: Final = 100
PRICE: Final = "$0.01 per completed audio minute, charged weekly"

_log = structlog.get_logger(__name__)

SuccessState: TypeAlias = Literal["unknown", "waiting", "other_browser", "ready", "shown", "renewed"]


class BillingService:
    """Billing over a store and accounts' state at Stripe; without it, buying raises `BillingUnavailable`.

    Only `redeem` and `recover_key` return a key; it is neither stored nor logged. `wake` wakes the worker
    after a webhook. Links for lost keys lead to our configured `public_url`, never to an address taken from a
    request; without a `mailer`, keys can't be recovered.
    """

    def __init__(
        self,
        store: BillingStore,
        clock: Clock,
        *,
        standing: BillingStanding | None = None,
        mailer: Mailer | None = None,
        public_url: str = "",
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        self._clock = clock
        self.standing = standing
        self._mailer = mailer
        self._public_url = public_url
        self._wake = wake
        self._lost: asyncio.Queue[str] = asyncio.Queue(MAX_WAITING_MAILS)

    @property
    def configured(self) -> bool:
        """Whether keys can be bought."""
        return self.standing is not None

    @property
    def can_recover(self) -> bool:
        """Whether lost keys can be recovered by mail."""
        return self._mailer is not None

    # --- buying -----------------------------------------------------------------------------------------

    async def start_checkout(
        self, email: str, *, base_url: str, browser: str | None = None, caller: Caller | None = None
    ) -> tuple[str, str]:
        """Start a Checkout Session for a new account, or for the caller's account to subscribe again.

        Returns the session's id and the URL where the buyer pays. `browser` is the secret cookie of the
        browser that started it; only that browser will see the key. Raises `GatewayError`, and
        `InvalidRequest` for an account that has a subscription.
        """
        gateway = self._opened().gateway
        account = None
        if caller is not None:
            account = await self._owner(caller)
            if account.subscription_id is not None and account.state != "cancelled":
                raise InvalidRequest(
                    "This account has a subscription. Manage it with POST /v1/billing/portal, or leave the "
                    "API key out to buy another account."
                )
        session_id, url = await gateway.start_checkout(
            success_url=f"{base_url}/success?checkout_session_id={{CHECKOUT_SESSION_ID}}",
            cancel_url=f"{base_url}/pricing",
            idempotency_key=f"checkout.{secrets.token_hex(16)}",
            email=email,
            customer_id=account.customer_id if account is not None else None,
            account_id=account.id if account is not None else None,
        )
        await self._store.begin_checkout(
            Checkout(
                id=session_id,
                account_id=account.id if account is not None else None,
                email=email,
                renewal=account is not None,
                browser_hash=_hash(browser) if browser is not None else None,
                created_at=self._clock.time(),
                completed_at=None,
                key_id=None,
            )
        )
        return session_id, url

    async def look(self, session_id: str, browser: str | None) -> SuccessState:
        """Return the state of a Checkout Session for its page, from Stripe. Changes nothing for the buyer."""
        checkout = await self._opened().complete(session_id)
        if checkout is None:
            return "unknown"
        if checkout.completed_at is None:
            return "waiting"
        if checkout.renewal:
            return "renewed"
        if not _may_see(checkout, browser):
            return "other_browser"
        return "ready" if checkout.key_id is None else "shown"

    async def claim(self, session_id: str, browser: str | None) -> str | None:
        """Return a one-time secret for the buyer's browser, with which `redeem` returns the key.

        `None` unless `look` returns "ready". A later claim replaces an earlier one, so a double click is
        harmless.
        """
        if await self.look(session_id, browser) != "ready":
            return None
        claim = secrets.token_urlsafe(32)
        expires_at = self._clock.time() + CLAIM_SECONDS
        granted = await self._store.grant_claim(session_id, _hash(claim), expires_at=expires_at)
        return claim if granted else None

    async def redeem(self, claim: str) -> str | None:
        """Create the account's key and return it. `None` for a claim that is unknown or already used."""
        key = keys.mint("live")
        record = keys.new_record(key, "checkout")
        checkout = await self._store.redeem_claim(_hash(claim), record, now=self._clock.time())
        return key.secret if checkout is not None else None

    # --- webhooks ---------------------------------------------------------------------------------------

    async def accept_event(self, payload: bytes, signature: str | None) -> bool:
        """Store a signed webhook event for the worker; return `False` if it is already known.

        Raises `InvalidSignature` and then stores nothing.
        """
        event = self._opened().gateway.read_event(payload, signature)
        added = await self._store.add_event(event, now=self._clock.time())
        if added:
            self._wake()
        return added

    # --- the account ------------------------------------------------------------------------------------

    async def view(self, caller: Caller) -> BillingView:
        """Return the caller's plan, state, cap and current billing week."""
        account = await self._account(caller)
        since = week_start(account, self._clock.time())
        minutes, under_way = await self._store.week_minutes(account.id, since=since)
        receipt = None
        if self.standing is not None and account.subscription_id is not None:
            # The other fields come from our database, so they are sent without the receipt too.
            with suppress(GatewayError):
                subscription = await self.standing.gateway.subscription(account.subscription_id)
                receipt = subscription.latest_receipt_url if subscription is not None else None
        return BillingView(
            **BillingView.same_fields(account),
            account_id=account.id,
            plan=account.tier,
            subscribed=account.subscription_id is not None and account.state != "cancelled",
            price=PRICE,
            week_started_at=since,
            week_minutes=minutes,
            jobs_under_way=under_way,
            latest_receipt_url=receipt,
        )

    async def portal_url(self, caller: Caller, *, base_url: str) -> str:
        """Return a short-lived link to Stripe's customer portal: payment method, receipts, cancellation."""
        account = await self._owner(caller)
        gateway = self._opened().gateway
        if account.customer_id is None:
            raise InvalidRequest(
                "This account does not pay through Stripe. The operator of this service manages it."
            )
        return await gateway.portal_url(account.customer_id, return_url=f"{base_url}/pricing")

    async def set_cap(self, caller: Caller, minutes: int | None) -> None:
        """Set the account's spending cap in metered minutes per billing week; `None` removes it."""
        account = await self._owner(caller)
        await self._store.set_cap(account.id, minutes)

    # --- lost keys --------------------------------------------------------------------------------------

    def ask_recovery(self, email: str) -> None:
        """Queue a recovery mail to this address; `send_recoveries` sends it if an account has the address.

        Neither the answer nor its timing reveals whether there is such an account. Raises `QueueBusy` when
        `MAX_WAITING_MAILS` are queued.
        """
        if self._mailer is None:
            raise BillingUnavailable(
                "This service does not recover keys by mail. Ask its operator for a new one. Operators: run "
                "stenobird billing remint, or set STENOBIRD_SMTP_URL and STENOBIRD_PUBLIC_URL."
            )
        try:
            self._lost.put_nowait(email)
        except asyncio.QueueFull:
            raise QueueBusy(retry_after_seconds=60) from None

    async def send_recoveries(self) -> None:
        """Send the queued recovery mails one after the other, until cancelled."""
        while True:
            email = await self._lost.get()
            try:
                await self.send_recovery(email)
            except (BillingUnavailable, StorageUnavailable) as error:
                _log.warning("recovery_mail_failed", reason=error.message)
            except Exception as exc:  # noqa: BLE001  # one failing mail must not stop the next ones
                _log.error("recovery_mail_failed", exc_info=exc)

    async def send_recovery(self, email: str) -> int:
        """Mail a link for each account with this address; return how many links were sent.

        The mail goes to the address that Stripe verified. An account gets at most three links an hour.
        """
        assert self._mailer is not None
        links = []
        to = email
        for account in await self._store.accounts_by_email(email):
            if account.customer_id is None or account.email is None:
                continue
            token = secrets.token_urlsafe(32)
            now = self._clock.time()
            allowed = await self._store.add_recovery(
                _hash(token), account.id, now=now, expires_at=now + RECOVERY_SECONDS
            )
            if allowed:
                # The account's spelling of the address; the request may differ in letter case.
                to = account.email
                links.append(f"Account {account.id}:\n{self._public_url}/recover?token={token}\n")
        if links:
            await self._mailer.send(to, "Your new Stenobird API key", _MAIL + "\n".join(links))
        return len(links)

    async def recover_key(self, token: str) -> str | None:
        """Create a new key for a mailed token and return it. `None` for an unknown or used token."""
        key = keys.mint("live")
        record = keys.new_record(key, "recovered")
        account_id = await self._store.redeem_recovery(_hash(token), record, now=self._clock.time())
        return key.secret if account_id is not None else None

    # --- inside -----------------------------------------------------------------------------------------

    def _opened(self) -> BillingStanding:
        if self.standing is None:
            raise BillingUnavailable
        return self.standing

    async def _owner(self, caller: Caller) -> BillingAccount:
        """Return the caller's account. Raises unless the caller may change its billing."""
        caller.require_write()
        if caller.mode == "test":
            raise InvalidRequest("A test key can't manage billing. Use a live key of this account.")
        return await self._account(caller)

    async def _account(self, caller: Caller) -> BillingAccount:
        account = await self._store.account(caller.account_id)
        if account is None:
            raise MissingAPIKey
        return account


_MAIL: Final = """\
Someone, probably you, asked for a new API key for your Stenobird account. Open the link within an hour and
press the button to see a new key, once. Your other keys stay valid; with the new one you can revoke them.

If it wasn't you, do nothing.

"""


def _may_see(checkout: Checkout, browser: str | None) -> bool:
    """Return whether this browser may see the key: it started the checkout, or no browser did."""
    if checkout.browser_hash is None:
        return True
    return browser is not None and hmac.compare_digest(checkout.browser_hash, _hash(browser))


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


@asynccontextmanager
async def open_billing(
    settings: Settings,
    store: BillingStore,
    clock: Clock,
    *,
    mailer: Mailer | None = None,
    timeout_seconds: float | None = None,
) -> AsyncIterator[tuple[BillingService, BillingWorker | None]]:
    """Open billing as the settings say; `mailer` replaces their mail server.

    Without Stripe in the settings there is no worker. Stripe has `timeout_seconds` to answer a request, or
    the gateway's own bound. Raises `ConfigurationError` for settings that don't fit together.
    """
    if settings.stripe_secret_key is None:
        yield BillingService(store, clock), None
        return
    # An installation that sells nothing never loads Stripe's library.
    from stenobird.billing.stripe_gateway import TIMEOUT_SECONDS, open_stripe  # noqa: PLC0415

    if mailer is None and settings.smtp_url is not None:
        mailer = SMTPMailer.of(settings.smtp_url.get_secret_value(), settings.smtp_from)
    if settings.public_url is None:
        # Without a configured address, a forged Host header could point the mailed link elsewhere.
        mailer = None
    async with open_stripe(settings, timeout_seconds=timeout_seconds or TIMEOUT_SECONDS) as gateway:
        standing = BillingStanding(store, gateway, clock)
        wake = asyncio.Event()
        service = BillingService(
            store,
            clock,
            standing=standing,
            mailer=mailer,
            public_url=settings.public_url or "",
            wake=wake.set,
        )
        worker = BillingWorker(
            store,
            standing,
            Metering(store, gateway, clock),
            clock,
            wake=wake,
            mails=service.send_recoveries if mailer is not None else None,
        )
        yield service, worker
