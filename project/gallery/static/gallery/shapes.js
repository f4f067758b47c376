// Keeps the page true while it is open: asks for it again, and takes over what has changed.
"use strict";

const SOON = 1000, AFTER_AN_ERROR = 8000;  // milliseconds

function takeOver(now) {
  for (const old of document.querySelectorAll("[data-live]")) {
    const fresh = now.querySelector(`[data-live="${CSS.escape(old.dataset.live)}"]`);
    // A link that ends is shown until it has; only another one, to somewhere else, takes its place.
    const same = "where" in old.dataset ? fresh?.dataset.where === old.dataset.where : fresh?.innerHTML === old.innerHTML;
    if (fresh && !same) old.replaceWith(fresh);
  }
}

async function look() {
  let again = SOON;
  try {
    const answer = await fetch(location.pathname);
    if (answer.redirected) return location.reload();  // logged out
    if (!answer.ok) throw new Error(answer.status);
    takeOver(new DOMParser().parseFromString(await answer.text(), "text/html"));
  } catch {
    again = AFTER_AN_ERROR;
  }
  if (document.hidden) {
    document.addEventListener("visibilitychange", look, { once: true });
  } else {
    setTimeout(look, again);
  }
}

function count() {
  for (const left of document.querySelectorAll("[data-ends]")) {
    const seconds = Math.round(left.dataset.ends - Date.now() / 1000);
    left.textContent = seconds > 0 ? `${seconds} s left` : "ended; load this page again for another";
    left.classList.toggle("over", seconds <= 0);
  }
}

for (const form of document.querySelectorAll("form.save")) {
  form.addEventListener("submit", () => {
    const button = form.querySelector("button");
    button.disabled = true;
    button.textContent = "Saving…";
  });
}
setInterval(count, 500);
setTimeout(look, SOON);
