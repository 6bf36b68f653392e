// Copying to the clipboard, and the buttons that do it.
import { $, announce, make, show } from "./dom.js";

const SAID_MS = 2000;

export async function copy(text, button) {
  const label = button.dataset.label ??= button.textContent;
  const said = (await taken(text)) ? "Copied" : "Select it and copy by hand";
  button.textContent = said;
  announce(said);
  clearTimeout(Number(button.dataset.timer));
  button.dataset.timer = setTimeout(() => { button.textContent = label; }, SAID_MS);
}

async function taken(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch { // no clipboard for pages over plain http
    const focused = document.activeElement;
    const field = make("textarea", { value: text, readOnly: true, className: "unseen" });
    document.body.append(field);
    field.select();
    const done = document.execCommand("copy");
    field.remove();
    focused?.focus();
    return done;
  }
}

// A button at every example of code, and those that the page has, which do nothing without a script.
export function offerCopies() {
  for (const button of document.querySelectorAll("[data-copy]")) {
    show(button);
    button.addEventListener("click", () => copy($(button.dataset.copy).textContent.trim(), button));
  }
  for (const code of document.querySelectorAll("pre > code")) {
    const button = make("button", { type: "button", className: "copy", textContent: "Copy" });
    button.setAttribute("aria-label", `Copy: ${code.parentElement.getAttribute("aria-label") || "this code"}`);
    button.addEventListener("click", () => copy(code.textContent, button));
    const frame = make("div", { className: "code" });
    code.parentElement.replaceWith(frame);
    frame.append(code.parentElement, button);
  }
}
