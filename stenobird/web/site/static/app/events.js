// Reads an event stream with fetch, since EventSource can't send a key.
import { Problem, api, lost } from "./api.js";

const RETRY_MS = 1000, MAX_RETRY_MS = 15000;
const SILENCE_MS = 45000, HIDDEN_MS = 30000;

// Parses the part of the "Server-sent events" format that the service uses. The service sends regular pings, so a
// connection without data for long is dead and counts as lost.
export async function* eventsOf(stream, silence = SILENCE_MS) {
  const decoder = new TextDecoder();
  const reader = stream.getReader();
  let rest = "", id = "", event = "", data = [];
  try {
    for (;;) {
      const { value, done } = await withinTime(silence, reader.read());
      if (done) return; // without its empty line, the last event is incomplete
      rest += decoder.decode(value, { stream: true });
      const lines = rest.split(/\r\n|\n|\r(?!$)/);
      rest = lines.pop();
      for (const line of lines) {
        if (line === "") {
          if (data.length) yield { id, event: event || "message", data: data.join("\n") };
          event = ""; data = [];
          continue;
        }
        const colon = line.indexOf(":");
        if (colon === 0) continue;
        const field = colon < 0 ? line : line.slice(0, colon);
        const text = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
        if (field === "data") data.push(text);
        else if (field === "event") event = text;
        else if (field === "id") id = text;
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

function withinTime(milliseconds, reading) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(lost()), milliseconds);
    reading.then(resolve, (error) => reject(error.name === "AbortError" ? error : lost())).finally(() => clearTimeout(timer));
  });
}

// Passes the job's status to `begin`, then every event to `take`, once and in order, until `done`. Reconnects when
// the connection is lost. Rejects with an error that a retry can't fix.
//
// A browser opens only six connections to a host over HTTP/1.1, so a hidden page has none: it asks now and then
// whether the transcript has ended, and reads on when it has, or when the page is visible again.
export async function follow(id, { share, silence, signal, begin, take, connected }) {
  let begun = false, ended = false, last = "", wait = RETRY_MS;
  for (;;) {
    let delay = 0;
    const link = new AbortController(), close = () => link.abort();
    const closeIfHidden = () => { if (document.hidden && !ended) close(); };
    signal.addEventListener("abort", close);
    document.addEventListener("visibilitychange", closeIfHidden);
    try {
      if (!begun || document.hidden) {
        const status = await (await api(`/v1/transcripts/${id}`, { share, signal })).json();
        if (!begun) begin(status);
        begun = true;
        ended = status.terminal;
      }
      closeIfHidden();
      const headers = last ? { "Last-Event-ID": last } : {};
      const response = await api(`/v1/transcripts/${id}/events`, { headers, share, signal: link.signal });
      connected(true);
      if (response.status === 204) return;
      for await (const event of eventsOf(response.body, silence)) {
        last = event.id;
        wait = RETRY_MS;
        take(event.event, JSON.parse(event.data));
        if (event.event === "done") return;
      }
    } catch (error) {
      if (signal.aborted) return;
      if (!link.signal.aborted && !(error instanceof Problem && error.retryable)) throw error;
      delay = (error.body?.retry_after_seconds || 0) * 1000;
    } finally {
      signal.removeEventListener("abort", close);
      document.removeEventListener("visibilitychange", closeIfHidden);
    }
    if (link.signal.aborted) {
      if (document.hidden) await pause(HIDDEN_MS, signal, document, "visibilitychange");
    } else {
      connected(false);
      await pause(Math.max(wait, delay), signal, window, "online");
      wait = Math.min(wait * 2, MAX_RETRY_MS);
    }
    if (signal.aborted) return;
  }
}

// Resolves after that time, or at once when the event occurs or the signal aborts.
function pause(milliseconds, signal, target, name) {
  return new Promise((resolve) => {
    const go = () => {
      clearTimeout(timer);
      target.removeEventListener(name, go);
      signal.removeEventListener("abort", go);
      resolve();
    };
    const timer = setTimeout(go, milliseconds);
    target.addEventListener(name, go);
    signal.addEventListener("abort", go);
  });
}
