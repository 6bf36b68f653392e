// The usage page: minutes by day, and the transcripts of the key's account.
import { api, explain, json } from "./api.js";
import { chartOf } from "./chart.js";
import { $, make, nameOf, show } from "./dom.js";
import { key } from "./kept.js";
import { statusName } from "./words.js";

const DAYS = 30, DAY_MS = 864e5, PAGE = 20;

function problem(error) {
  const { title, text } = explain(error);
  $("usage-problem").textContent = `${title}. ${text}`;
  show($("usage-problem"));
  show($("usage-ask"), error.status === 401);
}

async function showUsage() {
  const today = Date.now(), days = [];
  for (let back = DAYS - 1; back >= 0; back -= 1) {
    days.push({ day: new Date(today - back * DAY_MS).toISOString().slice(0, 10), minutes: 0, jobs: 0 });
  }
  const [usage, account] = await Promise.all([json(`/v1/usage?from=${days[0].day}&limit=1`), json("/v1/account")]);
  for (const row of usage.days) {
    Object.assign(days.find((other) => other.day === row.date) || {}, { minutes: row.billable_minutes, jobs: row.jobs });
  }
  const numbers = [[`Minutes, ${DAYS} days`, usage.total.billable_minutes], [`Transcripts, ${DAYS} days`, usage.total.jobs]];
  if (account.billing !== "operator") numbers.push(["Credits left", account.credits.available_units]);
  numbers.push(["Plan", account.tier]);
  $("usage-numbers").replaceChildren(...numbers.map(([name, value]) => make("div", {},
    make("dt", { textContent: name }), make("dd", { textContent: value.toLocaleString("en") }))));
  $("usage-rows").replaceChildren(...days.filter((row) => row.jobs).reverse().map((row) => make("tr", {},
    make("td", { textContent: row.day }), make("td", { textContent: row.jobs }), make("td", { textContent: row.minutes }))));
  show($("usage-body"));
  let drawn = 0;
  const draw = () => {
    const width = Math.round($("usage-chart").clientWidth);
    if (width && width !== drawn) $("usage-chart").replaceChildren(chartOf(days, drawn = width));
  };
  new ResizeObserver(draw).observe($("usage-chart"));
  draw();
}

async function showJobs(cursor) {
  const page = await json(`/v1/transcripts?limit=${PAGE}${cursor ? `&cursor=${encodeURIComponent(cursor)}` : ""}`);
  const rows = page.transcripts.map((job) => make("li", {},
    make("a", { href: `/t/${job.id}`, textContent: job.source?.title || nameOf(job.audio_url), dir: "auto" }),
    make("span", { textContent: [new Date(job.created_at).toLocaleDateString(), statusName(job.status), job.billable_minutes ? `${job.billable_minutes} min` : ""].filter(Boolean).join(" · ") })));
  $("usage-jobs").append(...rows);
  if (cursor) rows[0]?.querySelector("a").focus();
  show($("usage-none"), !$("usage-jobs").children.length);
  show($("usage-more"), Boolean(page.next_cursor));
  $("usage-more").onclick = () => showJobs(page.next_cursor).catch(problem);
}

// Only accounts that pay through Stripe have invoices.
async function showBilling() {
  const billing = await json("/v1/billing").catch(() => null);
  show($("usage-billing"), Boolean(billing?.subscribed || billing?.latest_receipt_url));
}

async function openPortal() {
  try {
    location.assign((await (await api("/v1/billing/portal", { method: "POST" })).json()).portal_url);
  } catch (error) {
    problem(error);
  }
}

async function run() {
  $("usage-portal").addEventListener("click", openPortal);
  show($("usage-ask"), !key.value);
  if (!key.value) return;
  try {
    await Promise.all([showUsage(), showBilling(), showJobs("")]);
  } catch (error) {
    problem(error);
  }
}

run();
