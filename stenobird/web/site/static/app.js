// Sets up what all pages share, then the current page. No dependencies, no build step.
import { offerCopies } from "./app/copying.js";
import { main } from "./app/dom.js";
import { run as home } from "./app/home.js";
import { bindKeys } from "./app/keys.js";
import { run as transcript } from "./app/transcript.js";
import { run as usage } from "./app/usage.js";

const PAGES = { home, transcript, usage };

for (const link of document.querySelectorAll(".top nav a")) {
  if (`${location.pathname}/`.startsWith(`${link.pathname}/`)) link.setAttribute("aria-current", "page");
}
bindKeys();
offerCopies();
PAGES[main.dataset.page]?.(main);
