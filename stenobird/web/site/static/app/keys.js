// The dialog to enter the API key, and the button that shows it.
import { api, explain } from "./api.js";
import { $, announce, show } from "./dom.js";
import { key, left } from "./kept.js";

const dialog = $("key-dialog");
let changed = () => location.reload();
let then = null;

// Sets what the page does when the key changes. By default it reloads.
export function onKeyChange(act) { changed = act; }

// Asks for a key, and says `why`. Afterwards it calls `act` if given, else what `onKeyChange` has set.
export function askKey(act = null, why = "") {
  then = act;
  $("key-why").textContent = why;
  show($("key-why"), Boolean(why));
  $("key-input").value = "";
  $("key-remember").checked = key.remembered;
  problem("");
  dialog.showModal();
}

function problem(text) {
  $("key-problem").textContent = text;
  $("key-input").toggleAttribute("aria-invalid", false);
  if (!text) return;
  $("key-input").setAttribute("aria-invalid", "true");
  $("key-input").focus();
}

function showKey() {
  const value = key.value;
  for (const button of document.querySelectorAll("[data-key-button]")) {
    show(button);
    button.textContent = value ? `Key …${value.slice(-4)}` : "Add key";
  }
  show(document.querySelector("[data-key-forget]"), Boolean(value));
}

async function enter(submit) {
  submit.preventDefault();
  const value = $("key-input").value.trim();
  if (!value) return problem("Paste the key here. It starts with sb_ or alef_sk_.");
  // Other characters can't be sent in a header.
  if (!/^[\x21-\x7e]+$/.test(value)) return problem("This is not a key: a key consists of letters, digits and underscores.");
  try {
    await api("/v1/transcripts?limit=1", { withKey: value });
  } catch (error) {
    return problem(explain(error).text);
  }
  key.keep(value, $("key-remember").checked);
  showKey();
  dialog.close();
  announce("The key is in use");
  return (then || changed)();
}

export function bindKeys() {
  dialog.querySelector("form").addEventListener("submit", enter);
  document.querySelector("[data-key-cancel]").addEventListener("click", () => dialog.close());
  document.querySelector("[data-key-forget]").addEventListener("click", () => {
    key.forget();
    showKey();
    dialog.close();
    changed();
  });
  for (const button of document.querySelectorAll("[data-key-button]")) button.addEventListener("click", () => askKey());
  for (const button of document.querySelectorAll("[data-use-key]")) {
    show(button);
    if (left.path) button.textContent = "Use it, and go back to the transcript";
    button.addEventListener("click", () => {
      key.keep($(button.dataset.useKey).textContent.trim(), false);
      location.assign(left.path || "/");
    });
  }
  for (const link of left.path ? document.querySelectorAll("[data-back]") : []) {
    link.href = left.path;
    show(link);
  }
  showKey();
}
