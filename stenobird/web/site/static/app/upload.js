// Sends a file of this device to the service.
import { json, lost, problemOf } from "./api.js";
import { key } from "./kept.js";
import { Pace, roughly } from "./pace.js";

const UNITS = ["bytes", "kB", "MB", "GB"];

// Returns how much of a file was sent, in one unit: "12 of 30 MB".
export function sizes(sent, total) {
  let unit = 0, size = total;
  for (; size >= 1000 && unit < UNITS.length - 1; unit += 1) size /= 1000;
  const digits = size < 10 && unit ? 1 : 0, inUnit = (bytes) => (bytes / 1000 ** unit).toFixed(digits);
  return `${inUnit(sent)} of ${inUnit(total)} ${UNITS[unit]}`;
}

// Sends the file, and returns the id of the upload. Calls `progress(sent, total, left)`, whose last argument is the
// time left in words. Rejects with an error that `explain` knows, or an AbortError.
export async function send(file, { address, progress, signal }) {
  const body = { filename: file.name.slice(-255), content_type: file.type || "application/octet-stream", size_bytes: file.size };
  const slot = await json(address, { method: "POST", body, signal });
  const pace = new Pace();
  await put(slot.upload_url, file, signal, (sent) => {
    pace.note(sent);
    const left = pace.left(file.size);
    progress(sent, file.size, left === null ? "" : roughly(left));
  });
  return slot.upload_id;
}

// With XMLHttpRequest, since fetch does not report how much was sent.
function put(address, file, signal, sent) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("PUT", address);
    request.setRequestHeader("Authorization", `Bearer ${key.value}`);
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.responseType = "json";
    request.upload.addEventListener("progress", ({ loaded }) => sent(loaded));
    request.addEventListener("load", () => (request.status < 300 ? resolve() : reject(problemOf(request.status, request.response || {}))));
    request.addEventListener("error", () => reject(lost()));
    request.addEventListener("abort", () => reject(new DOMException("stopped", "AbortError")));
    signal.addEventListener("abort", () => request.abort());
    request.send(file);
  });
}
