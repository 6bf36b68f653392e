// Copies text to the clipboard, and adds the copy buttons.
import { $, announce, make, show } from "./dom.js";

const FEEDBACK_MS = 2000;

export async function copy(text, button) {
  const label = button.dataset.label ??= button.textContent;
  const feedback = (await write(text)) ? "Copied" : "Select the text and copy it";
  button.textContent = feedback;
  announce(feedback);
  clearTimeout(Number(button.dataset.timer));
  button.dataset.timer = setTimeout(() => { button.textContent = label; }, FEEDBACK_MS);
}

async function write(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch { // pages over plain http have no clipboard API
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

// Adds a button to every code example, and shows those of the page, which need this script.
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
