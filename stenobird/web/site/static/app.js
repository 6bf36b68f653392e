// Sets up what all pages share; app/ has a script for each page that needs more. No dependencies, no build step.
import { offerCopies } from "./app/copying.js";
import { bindKeys } from "./app/keys.js";

for (const link of document.querySelectorAll(".top nav a")) {
  if (`${location.pathname}/`.startsWith(`${link.pathname}/`)) link.setAttribute("aria-current", "page");
}
bindKeys();
offerCopies();
