"""A Stripe that remembers, on loopback over real HTTP, for the tests of billing.

It keeps to what Stripe documents for the pinned API version, and to what it was seen to do where that is
silent. Parameters that the library's own parameter classes don't name are refused. What matters for money:

* An `Idempotency-Key` repeats the first answer, a 500 included; with other content it is refused.
* A meter event whose identifier was seen within 24 hours is refused with 400 and no code, only a message:
  "An event already exists with identifier …" (observed; the reference speaks of uniqueness alone).
* A meter event for an unknown customer is accepted, and reported later by a thin event.
* Summaries want whole minutes, and count what was accepted.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
import socket
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias
from urllib.parse import parse_qsl

import stripe
import uvicorn
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from stripe.params import (
    PriceCreateParams,
    ProductCreateParams,
    SubscriptionRetrieveParams,
    SubscriptionUpdateParams,
)
from stripe.params.billing import (
    MeterCreateParams,
    MeterEventCreateParams,
    MeterListEventSummariesParams,
    MeterListParams,
)
from stripe.params.billing_portal import (
    ConfigurationCreateParams,
)
from stripe.params.billing_portal import (
    SessionCreateParams as PortalSessionCreateParams,
)
from stripe.params.checkout import SessionCreateParams

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping

    from starlette.requests import Request

    from stenobird.ports import Clock

API_VERSION = "2026-10-28.endive"
IDENTIFIER_SECONDS = 24 * 3600
MAX_AGE_SECONDS = 35 * 86_400
MAX_AHEAD_SECONDS = 300
DEFAULT_PAGE = 10

Fault: TypeAlias = Literal["500", "500_after", "broken_after", "hang_after", "hang", "429"]
"""What goes wrong with a request: `…_after` happens when its work is done, the others instead of it."""

Json: TypeAlias = dict[str, Any]


class StripeRefusal(Exception):  # it is an answer, not a failure of the fake
    """An error answer."""

    def __init__(
        self, status: int, message: str, *, code: str | None = None, kind: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = {"stripe-should-retry": "false"} if status < 500 and status != 429 else {}
        error = {"type": kind or "invalid_request_error", "message": message}
        self.body = {"error": error | ({"code": code} if code else {})}


@dataclass
class FakeStripe:
    """The state of one Stripe account in test mode. `url` is set while it runs.

    `fault` is asked at each request, by method and path, what goes wrong with it; `calls` are those that
    arrived. `events` holds what webhooks would tell, in order.
    """

    clock: Clock
    secret_key: str = "sk_test_fake"  # of the fake
    webhook_secret: str = "whsec_fake"  # of the fake
    fault: Callable[[str, str], Fault | None] = lambda _method, _path: None
    url: str = ""
    objects: dict[str, Json] = field(default_factory=dict)
    meter_events: list[Json] = field(default_factory=list)
    lost_meter_events: list[Json] = field(default_factory=list)
    events: list[Json] = field(default_factory=list)
    calls: list[tuple[str, str, str | None]] = field(default_factory=list)
    _answers: dict[str, tuple[str, int, Json, Mapping[str, str]]] = field(default_factory=dict)
    _seen: dict[str, float] = field(default_factory=dict)
    _counter: int = 0

    def add_price(self, event_name: str) -> str:
        """Add a meter and a weekly price on it, as an operator sets them up; return the price's id."""
        meter = self._add("billing.meter", "mtr", event_name=event_name, status="active")
        recurring = {"usage_type": "metered", "interval": "week", "meter": meter["id"]}
        return str(self._add("price", "price", active=True, recurring=recurring)["id"])

    # --- what tests do ----------------------------------------------------------------------------------

    def complete_checkout(self, session_id: str, email: str | None = None) -> Json:
        """Do what a buyer does on Stripe's page; return the session."""
        session = self.objects[session_id]
        customer_id = session["customer"]
        if customer_id is None:
            customer_id = self._add("customer", "cus", email=email or session["customer_email"])["id"]
        now = int(self.clock.time())
        price = self.objects[session["_price"]]
        subscription = self._add(
            "subscription",
            "sub",
            customer=customer_id,
            status="active",
            billing_cycle_anchor=now,
            latest_invoice=None,
            items={
                "object": "list",
                "data": [{"id": self._id("si"), "object": "subscription_item", "price": price}],
                "has_more": False,
                "url": "/v1/subscription_items",
            },
        )
        session |= {
            "status": "complete",
            "payment_status": "no_payment_required",
            "customer": customer_id,
            "subscription": subscription["id"],
            "customer_details": {"email": email or session["customer_email"]},
            "url": None,
        }
        self._tell("customer.subscription.created", subscription)
        self._tell("checkout.session.completed", session)
        return session

    def set_subscription(self, subscription_id: str, status: str) -> None:
        """Change a subscription as time, a bank or its owner does, and tell so."""
        subscription = self.objects[subscription_id]
        subscription["status"] = status
        invoice = self._add(
            "invoice",
            "in",
            customer=subscription["customer"],
            status="paid" if status == "active" else "open",
            hosted_invoice_url=f"{self.url}/receipt/{self._id('inv')}",
        )
        subscription["latest_invoice"] = invoice["id"]
        if status == "canceled":
            self._tell("customer.subscription.deleted", subscription)
            return
        self._tell("invoice.paid" if status == "active" else "invoice.payment_failed", invoice)
        self._tell("customer.subscription.updated", subscription)

    def open_dispute(self, customer_id: str) -> str:
        """Have the customer's bank take a payment back for now; return the dispute's id."""
        charge = self._add("charge", "ch", customer=customer_id)
        dispute = self._add("dispute", "du", charge=charge["id"], status="needs_response")
        self._tell("charge.dispute.created", dispute)
        return str(dispute["id"])

    def close_dispute(self, dispute_id: str, status: str) -> None:
        """End a dispute: `won` or `lost`."""
        self.objects[dispute_id]["status"] = status
        self._tell("charge.dispute.closed", self.objects[dispute_id])

    def report_meter_errors(self) -> Json:
        """Tell of the meter events that could not be counted, as Stripe does some time later."""
        event_id = self._id("evt")
        samples = [
            {"error_message": "No such customer", "request": {"identifier": lost["_key"]}}
            for lost in self.lost_meter_events
        ]
        kind = {
            "code": "meter_event_customer_not_found",
            "error_count": len(samples),
            "sample_errors": samples[:10],
        }
        thin: Json = {
            "id": event_id,
            "object": "v2.core.event",
            "type": "v1.billing.meter.error_report_triggered",
            "created": "2027-01-15T08:00:00.000Z",
            "livemode": False,
            "related_object": {"id": "mtr_1", "type": "billing.meter", "url": "/v1/billing/meters/mtr_1"},
        }
        full = {
            **thin,
            "data": {
                "developer_message_summary": "Some events could not be counted.",
                "validation_start": "2027-01-15T07:59:00.000Z",
                "validation_end": "2027-01-15T08:00:00.000Z",
                "reason": {"error_count": len(samples), "error_types": [kind]},
            },
        }
        self.objects[event_id] = full
        self.events.append(thin)
        return thin

    def signed(self, event: Json, *, secret: str | None = None, at: float | None = None) -> tuple[bytes, str]:
        """Return a webhook's body and its `Stripe-Signature`."""
        body = json.dumps(event)
        header = stripe.WebhookSignature.generate_signature_header(
            body, secret or self.webhook_secret, None if at is None else int(at)
        )
        return body.encode(), header

    def minutes(self, customer_id: str | None = None) -> int:
        """Return the minutes counted, of one customer or of all."""
        return sum(
            int(event["payload"]["value"])
            for event in self.meter_events
            if customer_id in {None, event["payload"]["stripe_customer_id"]}
        )

    # --- the API ----------------------------------------------------------------------------------------

    def routes(self) -> Iterator[Route]:
        """Yield the routes of the API."""
        table: dict[tuple[str, str], Callable[[Json, str], Json]] = {
            ("POST", "/v1/checkout/sessions"): self._create_session,
            ("GET", "/v1/checkout/sessions/{id}"): self._retrieve("checkout.session", "subscription"),
            ("GET", "/v1/subscriptions/{id}"): self._retrieve("subscription", "latest_invoice"),
            ("POST", "/v1/subscriptions/{id}"): self._update_subscription,
            ("GET", "/v1/disputes/{id}"): self._retrieve("dispute", "charge"),
            ("GET", "/v1/customers/{id}"): self._retrieve("customer"),
            ("POST", "/v1/billing_portal/sessions"): self._create_portal_session,
            ("POST", "/v1/billing_portal/configurations"): self._creator(
                "billing_portal.configuration", "bpc", ConfigurationCreateParams, active=True
            ),
            ("GET", "/v1/billing_portal/configurations"): self._lister("billing_portal.configuration"),
            ("POST", "/v1/billing/meters"): self._create_meter,
            ("GET", "/v1/billing/meters"): self._lister("billing.meter", MeterListParams),
            ("POST", "/v1/billing/meter_events"): self._create_meter_event,
            ("GET", "/v1/billing/meters/{id}/event_summaries"): self._list_summaries,
            ("POST", "/v1/products"): self._creator("product", "prod", ProductCreateParams),
            ("GET", "/v1/products"): self._lister("product"),
            ("POST", "/v1/prices"): self._creator("price", "price", PriceCreateParams, active=True),
            ("GET", "/v1/prices"): self._lister("price"),
            ("GET", "/v2/core/events/{id}"): self._retrieve("v2.core.event"),
        }
        for (method, path), handle in table.items():
            yield Route(path, self._endpoint(handle), methods=[method])

    def _endpoint(self, handle: Callable[[Json, str], Json]) -> Callable[[Request], Any]:
        async def answer(request: Request) -> Response:
            text = (await request.body()).decode() or request.url.query
            key = request.headers.get("idempotency-key")
            self.calls.append((request.method, request.url.path, key))
            fault = self.fault(request.method, request.url.path)
            if fault == "hang":
                return await _hang(request)
            if fault == "429":
                refusal = StripeRefusal(429, "Too many requests", code="rate_limit")
                return JSONResponse(refusal.body, 429)
            status, body, headers = self._once(request, text, key, handle, fails=fault == "500")
            if fault in {"500", "500_after"}:
                status, body, headers = 500, _FAILURE, {}
                if key is not None:
                    # The answer that was given is the one that is repeated.
                    self._answers[key] = (self._print(request, text), status, body, headers)
            elif fault == "broken_after":
                return _broken()
            elif fault == "hang_after":
                return await _hang(request)
            return JSONResponse(body, status, {**headers, "Request-Id": self._id("req")})

        return answer

    def _print(self, request: Request, text: str) -> str:
        return hashlib.sha256(f"{request.method} {request.url.path}\n{text}".encode()).hexdigest()

    def _once(
        self,
        request: Request,
        text: str,
        key: str | None,
        handle: Callable[[Json, str], Json],
        *,
        fails: bool,
    ) -> tuple[int, Json, Mapping[str, str]]:
        if request.headers.get("authorization") != f"Bearer {self.secret_key}":
            refusal = StripeRefusal(401, "Invalid API Key provided: sk_test_****ake")
            return 401, refusal.body, {}
        try:
            repeated = self._repeated(request, text, key)
            if repeated is not None:
                return repeated
            if fails:
                return 500, _FAILURE, {}
            made = handle(_decode(text), request.path_params.get("id", ""))
            shown = {name: value for name, value in made.items() if name[0] != "_"}
            answer: tuple[int, Json, Mapping[str, str]] = (200, shown, {})
        except StripeRefusal as refusal:
            answer = (refusal.status, refusal.body, refusal.headers)
        if key is not None:
            self._answers[key] = (self._print(request, text), *answer)
        return answer

    def _repeated(
        self, request: Request, text: str, key: str | None
    ) -> tuple[int, Json, Mapping[str, str]] | None:
        """Return the answer that a key's first request got; raises what is wrong with the request's head."""
        if request.headers.get("stripe-version") != API_VERSION:
            raise StripeRefusal(400, "Invalid Stripe API version")
        if request.method == "POST" and key is None:
            raise StripeRefusal(400, "This fake wants an Idempotency-Key on every POST.")
        if key is None or key not in self._answers:
            return None
        known, status, body, headers = self._answers[key]
        if known != self._print(request, text):
            raise StripeRefusal(
                400, "Keys can only be used with the same parameters.", kind="idempotency_error"
            )
        return status, body, {**headers, "Idempotent-Replayed": "true"}

    def _create_session(self, params: Json, _id: str) -> Json:
        _check(params, SessionCreateParams)
        if params.get("mode") != "subscription":
            raise StripeRefusal(400, "This fake sells subscriptions only.")
        [item] = params["line_items"]
        price = self.objects.get(item["price"])
        if price is None:
            raise StripeRefusal(400, f"No such price: '{item['price']}'", code="resource_missing")
        if price["recurring"]["usage_type"] == "metered" and "quantity" in item:
            raise StripeRefusal(400, "Quantity should not be specified where usage_type is metered.")
        customer = params.get("customer")
        if customer is not None and customer not in self.objects:
            raise StripeRefusal(400, f"No such customer: '{customer}'", code="resource_missing")
        session_id = f"cs_test_{secrets.token_hex(20)}"
        return self._add(
            "checkout.session",
            "cs",
            id=session_id,
            mode="subscription",
            status="open",
            payment_status="unpaid",
            customer=customer,
            customer_email=params.get("customer_email"),
            customer_details=None,
            subscription=None,
            client_reference_id=params.get("client_reference_id"),
            success_url=params["success_url"],
            cancel_url=params.get("cancel_url"),
            metadata=params.get("metadata", {}),
            url=f"{self.url}/c/pay/{session_id}",
            _price=price["id"],
        )

    def _create_portal_session(self, params: Json, _id: str) -> Json:
        _check(params, PortalSessionCreateParams)
        if params["customer"] not in self.objects:
            raise StripeRefusal(400, f"No such customer: '{params['customer']}'", code="resource_missing")
        return self._add(
            "billing_portal.session", "bps", **params, url=f"{self.url}/p/session/{secrets.token_hex(8)}"
        )

    def _update_subscription(self, params: Json, subscription_id: str) -> Json:
        _check(params, SubscriptionUpdateParams)
        subscription = self.objects.get(subscription_id)
        if subscription is None or subscription["object"] != "subscription":
            raise StripeRefusal(404, f"No such subscription: '{subscription_id}'", code="resource_missing")
        subscription["cancel_at_period_end"] = params["cancel_at_period_end"] == "true"
        return subscription

    def _create_meter(self, params: Json, _id: str) -> Json:
        _check(params, MeterCreateParams)
        if any(meter["event_name"] == params["event_name"] for meter in self._all("billing.meter")):
            raise StripeRefusal(400, "An active meter with this event_name exists.")
        return self._add("billing.meter", "mtr", status="active", **params)

    def _create_meter_event(self, params: Json, _id: str) -> Json:
        _check(params, MeterEventCreateParams)
        now = self.clock.time()
        identifier = params.get("identifier") or self._id("idn")
        if not any(meter["event_name"] == params["event_name"] for meter in self._all("billing.meter")):
            raise StripeRefusal(400, f"No active meter found for event name {params['event_name']}")
        timestamp = int(params.get("timestamp") or now)
        if timestamp < now - MAX_AGE_SECONDS:
            raise StripeRefusal(
                400, "The timestamp is too far in the past.", code="timestamp_too_far_in_past"
            )
        if timestamp > now + MAX_AHEAD_SECONDS:
            raise StripeRefusal(400, "The timestamp is in the future.", code="timestamp_in_future")
        if now - self._seen.get(identifier, float("-inf")) < IDENTIFIER_SECONDS:
            raise StripeRefusal(400, f"An event already exists with identifier {identifier}.")
        self._seen[identifier] = now
        event = {
            "object": "billing.meter_event",
            "created": int(now),
            "event_name": params["event_name"],
            "identifier": identifier,
            "livemode": False,
            "payload": params["payload"],
            "timestamp": timestamp,
        }
        # Stripe checks the customer later, and callers do not wait for it.
        if params["payload"].get("stripe_customer_id") in self.objects:
            self.meter_events.append(event)
        else:
            self.lost_meter_events.append({**event, "_key": next(reversed(self.calls))[2]})
        return event

    def _list_summaries(self, params: Json, meter_id: str) -> Json:
        _check(params, MeterListEventSummariesParams)
        start, end = int(params["start_time"]), int(params["end_time"])
        if start % 60 or end % 60:
            raise StripeRefusal(400, "start_time and end_time must align with minute boundaries.")
        if meter_id not in self.objects:
            raise StripeRefusal(404, f"No such meter: '{meter_id}'", code="resource_missing")
        windows: dict[int, int] = {}
        width = {"hour": 3600, "day": 86_400}.get(
            params.get("value_grouping_window", ""), max(60, end - start)
        )
        for event in self.meter_events:
            if (
                start <= event["timestamp"] < end
                and event["payload"]["stripe_customer_id"] == params["customer"]
                and event["event_name"] == self.objects[meter_id]["event_name"]
            ):
                window = start + (event["timestamp"] - start) // width * width
                windows[window] = windows.get(window, 0) + int(event["payload"]["value"])
        summaries = [
            {
                "id": f"mtrusg_{meter_id}_{window}",
                "object": "billing.meter_event_summary",
                "aggregated_value": float(value),
                "start_time": window,
                "end_time": window + width,
                "livemode": False,
                "meter": meter_id,
            }
            for window, value in sorted(windows.items(), reverse=True)
        ]
        return _paged(summaries, params, f"/v1/billing/meters/{meter_id}/event_summaries")

    def _retrieve(self, kind: str, *expandable: str) -> Callable[[Json, str], Json]:
        def retrieve(params: Json, object_id: str) -> Json:
            found = self.objects.get(object_id)
            if found is None or found["object"] != kind:
                raise StripeRefusal(404, f"No such {kind}: '{object_id}'", code="resource_missing")
            if kind == "subscription":
                _check(params, SubscriptionRetrieveParams)
            expand = [name for name in expandable if name in params.get("expand", [])]
            inside = {name: self.objects.get(found[name]) for name in expand if found[name] is not None}
            return {name: value for name, value in {**found, **inside}.items() if name[0] != "_"}

        return retrieve

    def _creator(self, kind: str, prefix: str, shape: Any, **more: Any) -> Callable[[Json, str], Json]:
        def create(params: Json, _id: str) -> Json:
            _check(params, shape)
            if params.get("id") in self.objects:
                raise StripeRefusal(400, "This id exists.", code="resource_already_exists")
            return self._add(kind, prefix, **{"metadata": {}, **more, **params})

        return create

    def _lister(self, kind: str, shape: Any = None) -> Callable[[Json, str], Json]:
        path = {"billing_portal.configuration": "/v1/billing_portal/configurations"}.get(
            kind, f"/v1/{kind.replace('.', '/')}s"
        )

        def listed(params: Json, _id: str) -> Json:
            if shape is not None:
                _check(params, shape)
            found = self._all(kind)
            if "ids" in params:
                found = [item for item in found if item["id"] in params["ids"]]
            if "lookup_keys" in params:
                found = [item for item in found if item.get("lookup_key") in params["lookup_keys"]]
            return _paged(found, params, path)

        return listed

    # --- inside -----------------------------------------------------------------------------------------

    def _all(self, kind: str) -> list[Json]:
        return [item for item in self.objects.values() if item["object"] == kind]

    def _add(self, kind: str, prefix: str, **fields: Any) -> Json:
        created = int(self.clock.time())
        item = {"id": self._id(prefix), "object": kind, "created": created, "livemode": False, **fields}
        self.objects[item["id"]] = item
        return item

    def _id(self, prefix: str) -> str:
        self._counter += 1
        return f"{prefix}_{self._counter}"

    def _tell(self, kind: str, about: Json) -> None:
        self.events.append(
            {
                "id": self._id("evt"),
                "object": "event",
                "api_version": API_VERSION,
                "created": int(self.clock.time()),
                "type": kind,
                "livemode": False,
                "pending_webhooks": 1,
                "request": {"id": None, "idempotency_key": None},
                # As it is now: a late delivery tells what was, not what is.
                "data": {"object": json.loads(json.dumps(about))},
            }
        )


_FAILURE: Json = {"error": {"type": "api_error", "message": "An unknown error occurred."}}


@asynccontextmanager
async def running_stripe(fake: FakeStripe) -> AsyncIterator[FakeStripe]:
    """Serve the fake on a free loopback port while the context lasts."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        fake.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        app = Starlette(routes=list(fake.routes()))
        server = uvicorn.Server(
            uvicorn.Config(
                app, log_config=None, log_level="critical", access_log=False, lifespan="off", ws="none"
            )
        )
        # As a method of its own, since uvicorn would take over the signals of the test run.
        async with asyncio.TaskGroup() as tasks:
            serving = tasks.create_task(server._serve(sockets=[listener]))
            try:
                yield fake
            finally:
                server.should_exit = True
                server.force_exit = True
                await asyncio.wait((serving,))


async def _hang(request: Request) -> Response:
    """Answer nothing until the client has gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
    return Response(status_code=499)


def _broken() -> Response:
    """Break the answer off in its middle, which closes the connection."""

    async def half() -> AsyncIterator[bytes]:
        yield b'{"object": '

    return StreamingResponse(half(), headers={"Content-Length": "1000"}, media_type="application/json")


def _check(params: Json, shape: Any) -> None:
    for name in params:
        if name not in shape.__annotations__:
            raise StripeRefusal(400, f"Received unknown parameter: {name}", code="parameter_unknown")


def _paged(items: list[Json], params: Json, url: str) -> Json:
    limit = int(params.get("limit", DEFAULT_PAGE))
    start = 0
    if after := params.get("starting_after"):
        start = [item["id"] for item in items].index(after) + 1
    page = items[start : start + limit]
    return {"object": "list", "data": page, "has_more": start + limit < len(items), "url": url}


def _decode(text: str) -> Json:
    """Read `a[b][0][c]=…` as nested objects and lists."""
    decoded: Json = {}
    for name, value in parse_qsl(text, keep_blank_values=True):
        first, *rest = name.replace("]", "").split("[")
        place: Any = decoded
        for part, following in zip([first, *rest], [*rest, None], strict=True):
            if following is None:
                place[part] = value
            else:
                place = place.setdefault(part, {})
    return {name: _as_lists(value) for name, value in decoded.items()}


def _as_lists(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if value and all(name.isdigit() for name in value):
        return [_as_lists(value[name]) for name in sorted(value, key=int)]
    return {name: _as_lists(inner) for name, inner in value.items()}
