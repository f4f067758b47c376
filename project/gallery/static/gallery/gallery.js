// Keeps the badges true while the page is open. Everything else on the page works without it.
"use strict";

const gallery = document.getElementById("gallery");
const SOON = 700, IDLE = 4000, AFTER_AN_ERROR = 8000;  // milliseconds
const LONGEST = 480;  // pixels of a thumb

function badge({ target, status, reason }) {
  const item = document.createElement("li");
  item.className = `badge ${status}`;
  item.dataset.target = target;
  item.tabIndex = 0;
  item.title = reason;
  const name = document.createElement("b");
  name.textContent = target;
  const word = document.createElement("span");
  word.textContent = status;
  item.append(name, " ", word);
  return item;
}

function update(list, badges) {
  for (const each of badges) {
    const old = list.querySelector(`[data-target="${CSS.escape(each.target)}"]`);
    if (!old) {
      list.append(badge(each));
    } else if (!old.classList.contains(each.status) || old.title !== each.reason) {
      old.className = `badge ${each.status}`;
      old.title = each.reason;
      old.querySelector("span").textContent = each.status;
    }
  }
  list.querySelector(".none")?.remove();
}

function showHosts(hosts) {
  for (const host of hosts) {
    const item = document.querySelector(`#hosts [data-target="${CSS.escape(host.target)}"]`);
    if (!item) continue;
    item.className = `host ${host.state}`;
    item.title = host.reason;
    item.querySelector(".state").textContent = host.state;
    const counts = [];
    if (host.pending) counts.push(`${host.pending} pending`);
    if (host.failed) counts.push(`${host.failed} failed`);
    item.querySelector(".backlog").textContent = counts.join(", ");
  }
}

function showLeaving(files) {
  const section = document.getElementById("leaving");
  section.hidden = !files.length;
  section.querySelector("div").replaceChildren(...files.map((file) => {
    const row = document.createElement("div");
    row.className = "gone";
    const name = document.createElement("p");
    name.className = "file";
    name.textContent = file.name;
    const list = document.createElement("ul");
    list.className = "badges";
    list.append(...file.badges.map(badge));
    row.append(name, list);
    return row;
  }));
}

async function look() {
  let again = SOON;
  try {
    const cards = [...document.querySelectorAll("[data-picture]")];
    const ids = cards.map((card) => card.dataset.picture).join(",");
    const answer = await fetch(`${gallery.dataset.status}?ids=${ids}`, { headers: { Accept: "application/json" } });
    if (answer.redirected) return location.reload();  // logged out
    if (!answer.ok) throw new Error(answer.status);
    const now = await answer.json();
    for (const file of now.files) {
      const list = document.querySelector(`[data-file="${CSS.escape(file.name)}"]`);
      if (list) update(list, file.badges);
    }
    for (const card of cards) {
      card.classList.toggle("going", !now.pictures.includes(Number(card.dataset.picture)));
    }
    showHosts(now.hosts);
    showLeaving(now.leaving);
    if (now.settled) again = IDLE;
  } catch {
    again = AFTER_AN_ERROR;
  }
  if (document.hidden) {
    document.addEventListener("visibilitychange", look, { once: true });
  } else {
    setTimeout(look, again);
  }
}

for (const form of document.querySelectorAll("[data-confirm]")) {
  form.addEventListener("submit", (event) => {
    if (!confirm(form.dataset.confirm)) event.preventDefault();
  });
}

// The server has no means to make images smaller; the browser that uploads one has.
async function fillThumb(input) {
  const [original] = input.form.elements[input.dataset.thumbOf].files;
  const image = await createImageBitmap(original);
  const scale = Math.min(1, LONGEST / Math.max(image.width, image.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(image.width * scale));
  canvas.height = Math.max(1, Math.round(image.height * scale));
  canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
  const blob = await new Promise((done) => canvas.toBlob(done, "image/webp", 0.8));
  const files = new DataTransfer();
  files.items.add(new File([blob], original.name.replace(/\.\w+$/, "") + ".webp"));
  input.files = files.files;
}

for (const input of document.querySelectorAll("[data-thumb-of]")) {
  input.form.addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      await fillThumb(input);
    } catch {
      // Not an image, or one that this browser can't show: the server says so, or does without.
    }
    input.form.submit();
  });
}
document.getElementById("upload")?.addEventListener("submit", (event) => {
  const button = event.target.querySelector("button.primary");
  button.disabled = true;
  button.textContent = "Uploading…";
});
if (gallery) look();
