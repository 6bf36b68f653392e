// Single keys that control the player and the search, and the dialog that lists them.
import { $, show } from "./dom.js";
import { shortcuts } from "./kept.js";

const TYPED_INTO = "input:not([type=checkbox]), textarea, select, audio, dialog, [contenteditable]";
const PRESSED = "button, a, summary, [tabindex='0'], input";

// Returns the key of a press that is a shortcut here, else "". A control that has the focus keeps its own keys.
export function keyOf({ key, ctrlKey, metaKey, altKey, defaultPrevented, target }, on = true) {
  if (!on || ctrlKey || metaKey || altKey || defaultPrevented || target.closest?.(TYPED_INTO)) return "";
  return key === " " && target.closest?.(PRESSED) ? "" : key;
}

// Calls `acts[key]`; one that returns false leaves the press to the browser.
export function bindShortcuts(acts, signal) {
  const help = $("job-help"), used = $("job-keys-used");
  const all = { ...acts, "?": () => help.showModal() };
  used.checked = shortcuts.on;
  used.addEventListener("change", () => { shortcuts.on = used.checked; }, { signal });
  show($("job-keys"));
  $("job-keys").addEventListener("click", all["?"], { signal });
  document.addEventListener("keydown", (press) => {
    const act = all[keyOf(press, shortcuts.on)];
    if (act && !document.querySelector("dialog[open]") && act() !== false) press.preventDefault();
  }, { signal });
}
