// The home page: the form for a link or a file, and the recent transcripts.
import { explain, start } from "./api.js";
import { choices, minutesProblem, nameLanguages } from "./choices.js";
import { $, announce, make, show } from "./dom.js";
import { askKey, onKeyChange } from "./keys.js";
import { key, recent } from "./kept.js";
import { KINDS } from "./words.js";

const MAX_TRIES = 5;
let asked = 0; // counts submissions, so that a waiting retry notices a newer one

function problem(text, { href, link } = {}) {
  const line = $("ask-problem"), field = $("audio-url");
  line.replaceChildren(text, ...(href ? [" ", make("a", { href, textContent: link })] : []));
  show(line, Boolean(text));
  field.toggleAttribute("aria-invalid", false);
  if (text) field.setAttribute("aria-invalid", "true");
}

// While the service is busy, retries after the time it states, until the link is changed.
async function ask(url) {
  const mine = asked += 1;
  const button = $("ask-form").querySelector("[type=submit]");
  problem("");
  button.disabled = true;
  announce("Sending the link");
  try {
    for (let tries = 1; mine === asked; tries += 1) {
      try {
        return await start({ audio_url: url, ...choices($("ask-form")) });
      } catch (error) {
        const explained = explain(error);
        const wait = error.status === 429 && tries < MAX_TRIES ? error.body.retry_after_seconds : 0;
        problem(wait ? `${explained.text} This page retries by itself.` : explained.text, explained);
        if (!wait) return $("audio-url").focus();
        await new Promise((resolve) => { setTimeout(resolve, wait * 1000); });
      }
    }
  } finally {
    if (mine === asked) button.disabled = false;
  }
  return undefined;
}

// --- files

let sending = null;

// Sends a file and opens its transcript. Asks for a key first, since only links have a free preview.
async function take(file) {
  if (!file || sending) return undefined;
  problem("");
  if (!key.value) return askKey(() => { showStored(); take(file); }, "A file needs a key. Only links have a free preview.");
  sending = new AbortController();
  show($("sending"));
  show($("ask-form"), false);
  $("sending-name").textContent = file.name;
  $("sending-name").focus();
  try {
    const { send, sizes } = await import("./upload.js"); // few visitors need it
    const progress = (sent, total, left) => {
      $("sending-bar").value = sent / total;
      $("sending-pace").textContent = sent < total ? [sizes(sent, total), left].filter(Boolean).join(" · ") : "Starting the transcription";
    };
    progress(0, file.size, "");
    const uploadId = await send(file, { address: $("ask-form").dataset.uploads, progress, signal: sending.signal });
    return await start({ upload_id: uploadId, ...choices($("ask-form")) }, file.name);
  } catch (error) {
    show($("sending"), false);
    show($("ask-form"));
    $("ask-choose").focus();
    if (error.name === "AbortError") return announce("The upload was stopped");
    const explained = explain(error);
    return problem(`${explained.title}. ${explained.text}`, explained);
  } finally {
    sending = null;
  }
}

// A file may be dropped anywhere on the page.
function bindFiles() {
  const hasFile = (drag) => [...(drag.dataTransfer?.types || [])].includes("Files");
  const over = (yes) => document.body.classList.toggle("dropping", yes);
  $("ask-choose").addEventListener("click", () => $("ask-file").click());
  $("ask-file").addEventListener("change", () => {
    take($("ask-file").files[0]);
    $("ask-file").value = ""; // so that the same file can be chosen again
  });
  document.addEventListener("dragover", (drag) => {
    if (!hasFile(drag)) return;
    drag.preventDefault();
    over(!sending);
  });
  document.addEventListener("dragleave", (drag) => { if (!drag.relatedTarget) over(false); });
  document.addEventListener("drop", (drag) => {
    over(false);
    if (!hasFile(drag)) return;
    drag.preventDefault();
    take(drag.dataTransfer.files[0]);
  });
  for (const part of document.querySelectorAll("[data-scripted]")) show(part);
  $("sending-stop").addEventListener("click", () => sending?.abort());
}

function submit(event) {
  event.preventDefault();
  const url = $("audio-url").value.trim();
  if (!url) {
    problem("Paste a link first.");
    return $("audio-url").focus();
  }
  const minutes = $("ask-minutes"), wrong = minutesProblem(minutes);
  if (wrong) {
    problem(wrong);
    $("audio-url").removeAttribute("aria-invalid");
    minutes.closest("details").open = true;
    return minutes.focus();
  }
  return ask(/^[a-z][a-z0-9+.-]*:/i.test(url) ? url : `https://${url}`);
}

function changed() {
  asked += 1;
  problem("");
  $("ask-form").querySelector("[type=submit]").disabled = false;
}

// A link pasted anywhere on the page goes into the field.
function paste(event) {
  if (event.target.closest?.("input, textarea, dialog")) return;
  const file = event.clipboardData?.files[0];
  if (file) {
    event.preventDefault();
    take(file);
    return;
  }
  const text = event.clipboardData?.getData("text/plain").trim() || "";
  if (!/^\S+\.\S+$/.test(text)) return;
  event.preventDefault();
  $("audio-url").value = text;
  $("audio-url").focus();
  changed();
}

function showStored() {
  show($("ask-free"), !key.value);
  show($("ask-key"), Boolean(key.value));
  const rows = recent.all();
  show($("recent"), rows.length > 0);
  $("recent-list").replaceChildren(...rows.map((row) => make("li", {},
    make("a", { href: `/t/${encodeURIComponent(row.id)}`, textContent: row.title || row.id, dir: "auto" }),
    make("span", { textContent: [KINDS[row.mode], new Date(row.at).toLocaleDateString()].filter(Boolean).join(" · ") }))));
}

$("ask-form").addEventListener("submit", submit);
$("audio-url").addEventListener("input", changed);
document.addEventListener("paste", paste);
$("ask-form").querySelector("[data-sample]")?.addEventListener("click", (click) => {
  $("audio-url").value = click.target.dataset.sample;
  ask(click.target.dataset.sample);
});
$("recent-clear").addEventListener("click", () => {
  recent.clear();
  showStored();
  announce("The list is empty");
  $("audio-url").focus();
});
bindFiles();
if ($("ask-language")) nameLanguages($("ask-language"));
onKeyChange(showStored);
addEventListener("pageshow", showStored); // also after Back, when the browser restores the page
showStored();
