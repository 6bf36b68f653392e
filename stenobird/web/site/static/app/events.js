// Reads an event stream with fetch, since EventSource can't send a key.
import { Problem, api, lost } from "./api.js";

const RETRY_MS = 1000, MAX_RETRY_MS = 15000;
const SILENCE_MS = 45000;

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
export async function follow(id, { share, silence, signal, begin, take, connected }) {
  let begun = false, last = "", wait = RETRY_MS;
  for (;;) {
    let pause = 0;
    try {
      if (!begun) begin(await (await api(`/v1/transcripts/${id}`, { share, signal })).json());
      begun = true;
      const headers = last ? { "Last-Event-ID": last } : {};
      const response = await api(`/v1/transcripts/${id}/events`, { headers, share, signal });
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
      if (!(error instanceof Problem && error.retryable)) throw error;
      pause = (error.body.retry_after_seconds || 0) * 1000;
    }
    connected(false);
    await untilOnlineOr(Math.max(wait, pause), signal);
    if (signal.aborted) return;
    wait = Math.min(wait * 2, MAX_RETRY_MS);
  }
}

function untilOnlineOr(milliseconds, signal) {
  return new Promise((resolve) => {
    const go = () => {
      clearTimeout(timer);
      removeEventListener("online", go);
      signal.removeEventListener("abort", go);
      resolve();
    };
    const timer = setTimeout(go, milliseconds);
    addEventListener("online", go);
    signal.addEventListener("abort", go);
  });
}
