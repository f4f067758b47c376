// The page of one copy, as polling.js keeps it up to date.
"use strict";
{
    const RUNNING = 1500;
    // Somebody else may resume it.
    const PAUSED = 5000;
    const page = document.querySelector("[data-replicator-run]");
    const part = (found, name) => (name === "run" ? found.run : found.models[Number(name)]);

    // Only what differs is touched: a screen reader says what changes, and a selection stays.
    function show(found) {
        for (const element of page.querySelectorAll("[data-text]")) {
            const [name, key] = element.dataset.text.split(".");
            const text = part(found, name)?.texts[key];
            if (text !== undefined && element.textContent !== text) {
                element.textContent = text;
            }
        }
        for (const bar of page.querySelectorAll("[data-share]")) {
            const share = part(found, bar.dataset.share)?.share;
            if (typeof share === "number") {
                bar.value = share;
            } else {
                bar.removeAttribute("value");
            }
        }
        for (const element of page.querySelectorAll("[data-flag]")) {
            const [name, key] = element.dataset.flag.split(".");
            const hidden = !part(found, name)?.flags[key];
            // Whoever was about to press it is not sent back to the top of the page.
            if (hidden && !element.hidden && element.contains(document.activeElement)) {
                page.tabIndex = -1;
                page.focus({preventScroll: true});
            }
            element.hidden = hidden;
        }
        page.querySelector("[data-badge]").className = `replicator-badge replicator-${found.state}`;
        page.dataset.state = found.state;
        return found.over;
    }

    replicatorPolling(page, show, () => (page.dataset.state === "running" ? RUNNING : PAUSED));
}
