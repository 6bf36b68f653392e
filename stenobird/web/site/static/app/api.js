// Calls the API, and explains its errors.
import { $, nameOf } from "./dom.js";
import { key, recent } from "./kept.js";

export class Problem extends Error {
  constructor(status, body = {}) {
    super(body.message || "The service sent a response that this page can't read. Try again in a moment.");
    this.status = status;
    this.code = body.error || "";
    this.body = body;
  }

  // Whether a retry may help: no response, a server error, or a full queue.
  get retryable() { return !this.status || this.status >= 500 || this.status === 429; }
}

export const lost = () => new Problem(0, { error: "offline" });

// Returns { title, text, href, link } for an error, with the page's own text if it has one for this code.
export function explain({ code, message, body = {} }) {
  const known = $("problems").content.querySelector(`[data-code="${CSS.escape(code)}"]`);
  let text = known?.textContent || message;
  const wait = Math.ceil(body.retry_after_seconds || 0);
  if (wait && known?.textContent) text += ` Try again in ${wait} ${wait === 1 ? "second" : "seconds"}.`;
  if (body.request_id) text += ` (Request ${body.request_id})`;
  return { title: known?.dataset.title || "This did not work", text, href: known?.dataset.href, link: known?.dataset.link };
}

export async function api(path, { method = "GET", body, headers = {}, signal, share, withKey = key.value } = {}) {
  const sent = { ...headers };
  if (withKey && !share) sent.Authorization = `Bearer ${withKey}`;
  if (body !== undefined) sent["Content-Type"] = "application/json";
  if (share) path += `${path.includes("?") ? "&" : "?"}share=${encodeURIComponent(share)}`;
  let response;
  try {
    response = await fetch(path, {
      method, signal, headers: sent, cache: "no-store", credentials: "same-origin",
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw lost();
  }
  if (!response.ok) throw problemOf(response.status, await response.json().catch(() => ({})));
  return response;
}

// The addresses of uploads put the fields of an error into an object.
export function problemOf(status, body) {
  const { error } = body;
  if (typeof error !== "object" || !error) return new Problem(status, body);
  return new Problem(status, { ...error.details, error: error.code, message: error.message });
}

export const json = async (path, options) => (await api(path, options)).json();

// Creates a transcript and opens its page. `wanted` has the fields of the request; `name` is that of an uploaded
// file. With a key and a preview's id it continues the preview, if possible.
export async function start({ preview_id: previewId, ...wanted }, name = nameOf(wanted.audio_url)) {
  const body = { ...wanted, word_timestamps: true };
  if (previewId && key.value) body.preview_id = previewId;
  let made;
  try {
    made = await json("/v1/transcripts", { method: "POST", body });
  } catch (error) {
    if (error.body?.field !== "preview_id") throw error;
    return start(wanted, name);
  }
  const { audio_url: _url, upload_id: _upload, ...options } = wanted;
  recent.note({ id: made.id, title: name, mode: made.mode, at: Date.now(), options });
  return location.assign(`/t/${made.id}`);
}
