"""A webhook deliverer over a real database and real sockets, with a clock that the test moves."""

from __future__ import annotations

import ipaddress
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from stenobird.egress.client import EgressClient
from stenobird.egress.policy import EgressPolicy
from stenobird.jobs.events import JobEvents
from stenobird.jobs.leased import end_webhook
from stenobird.ports import NewJob, RecognitionOptions
from stenobird.storage.account_store import AccountStore
from stenobird.storage.delivery_store import DeliveryStore
from stenobird.storage.job_store import JobStore
from stenobird.testing import FakeClock
from stenobird.webhooks.delivery import WebhookDeliverer
from tests.support.dns import FakeResolver
from tests.support.raw_server import answer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from anyio.abc import SocketStream

    from stenobird.egress.policy import Resolver
    from stenobird.ports import KeyMode, Mode
    from stenobird.ports.webhooks import Delivery
    from stenobird.storage.engine import Database
    from tests.support.dns import Answer
    from tests.support.raw_server import RawRequest

OWNER: Final = "acct_owner"
LOOPBACK: Final = ipaddress.ip_network("127.0.0.0/8")


@dataclass
class Receiver:
    """A handler for `raw_server.open_server`. `status` is what it answers; `None` breaks the connection."""

    status: int | None = 204
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    requests: list[RawRequest] = field(default_factory=list)
    accepted: list[str] = field(default_factory=list)
    """The event ids that were answered 2xx."""

    async def __call__(self, request: RawRequest, stream: SocketStream) -> None:
        """Answer as the test says."""
        self.requests.append(request)
        if self.status is None:
            await stream.aclose()
            return
        await stream.send(answer(self.status, self.body, self.headers))
        if 200 <= self.status < 300:
            self.accepted.append(request.headers["webhook-id"])


@dataclass
class WebhookWorld:
    """What a deliverer stands on."""

    database: Database
    client: EgressClient
    clock: FakeClock
    jobs: JobStore
    accounts: AccountStore
    deliveries: DeliveryStore
    served: WebhookDeliverer | None = None
    """That of a service, in place of a new one."""
    made: int = 0

    def deliverer(self, *, database: Database | None = None, chance: float = 0.5) -> WebhookDeliverer:
        """Return one more worker, on another view of the database if so asked."""
        if self.served is not None:
            return self.served
        store = self.deliveries
        if database is not None:
            store = DeliveryStore(database, now=self.clock.time)
        return WebhookDeliverer(store, self.client, self.clock, chance=lambda: chance)

    async def secret(self, account_id: str = OWNER, *, mode: KeyMode = "live") -> str:
        """Return the account's secret, made now if it has none."""
        return (await self.deliveries.signing_secrets(account_id, mode=mode, now=self.clock.now)).current

    async def end_job(
        self,
        url: str,
        *,
        account_id: str = OWNER,
        origin: Literal["stenobird", "alefbot", "openai"] = "stenobird",
        mode: Mode = "full",
    ) -> str:
        """Commit a job with this webhook and its end; return the job's id."""
        self.made += 1
        job_id = f"tr_{self.made}"
        events = JobEvents(job_id, "http://test")
        new = NewJob(
            job_id,
            mode,
            "https://example.com/a.mp3",
            "http://test",
            RecognitionOptions(),
            account_id=account_id,
            origin=origin,
            webhook_url=url,
        )
        job = await self.jobs.create(new, events.status("queued", "validating_url"), max_queued=1000)
        await self.jobs.request_cancel(
            job_id, [events.done("cancelled")], webhook=end_webhook(job, "cancelled")
        )
        return job_id

    async def log(self, account_id: str = OWNER) -> list[Delivery]:
        """Return the account's deliveries, newest first."""
        return list(await self.deliveries.own_deliveries(account_id, limit=1000))

    async def only(self) -> Delivery:
        """Return the one delivery that there is."""
        [record] = await self.log()
        return record

    async def work_until(self, moment: float, deliverer: WebhookDeliverer) -> None:
        """Work through everything that is due until then, the clock jumping from one thing to the next."""
        while True:
            while await deliverer.step():
                pass
            due = [row.next_attempt_at for row in await self.log() if row.next_attempt_at is not None]
            following = min(due, default=moment)
            if following >= moment:
                self.clock.now = moment
                return
            self.clock.now = max(self.clock.now, following)


def delivery_clock() -> FakeClock:
    """Return a clock under which all that a test commits is due.

    The rows are dated by the database's clock, and receivers take signatures that are five minutes off.
    """
    return FakeClock(time.time() + 120.0)


@asynccontextmanager
async def webhook_world(
    database: Database,
    *,
    allow: Sequence[Any] = (LOOPBACK,),
    names: Mapping[str, Sequence[Answer]] | None = None,
    resolver: Resolver | None = None,
    clock: FakeClock | None = None,
    served: WebhookDeliverer | None = None,
) -> AsyncIterator[WebhookWorld]:
    """Yield a world over an open database, with one account. `allow` are networks besides the public ones.

    Names are looked up in `names`, or with `resolver`. `served` is the deliverer of a service on this
    database, with its `clock`.
    """
    accounts = AccountStore(database)
    await accounts.create_account(OWNER, OWNER, "premium", "operator", by="operator")
    policy = EgressPolicy(allow, None)
    async with EgressClient(policy, resolver=resolver or FakeResolver(names or {})) as client:
        clock = clock or delivery_clock()
        yield WebhookWorld(
            database,
            client,
            clock,
            JobStore(database),
            accounts,
            DeliveryStore(database, now=clock.time),
            served,
        )
