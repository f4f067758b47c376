// Keeps a copy's page up to date while somebody looks at it and the copy is not over.
"use strict";
{
    const RUNNING = 1500;
    // Somebody else may resume it.
    const PAUSED = 5000;
    // Patience with one answer.
    const LIMIT = 15000;

    const page = document.querySelector("[data-replicator-run]");
    const [lost, ended] = ["[data-lost]", "[data-ended]"].map((one) => page.querySelector(one));
    let over = "over" in page.dataset;
    page.querySelector("[data-plain]")?.remove();
    let timer = 0;
    let asking = false;

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
        over = found.over;
    }

    async function ask() {
        asking = true;
        try {
            const answer = await fetch(page.dataset.poll, {
                headers: {Accept: "application/json"},
                signal: AbortSignal.timeout(LIMIT),
            });
            if (answer.redirected || [401, 403, 404].includes(answer.status)) {
                // Logged out, or not allowed any more.
                over = true;
                ended.hidden = false;
            } else if (answer.ok) {
                show(await answer.json());
                lost.hidden = true;
            } else {
                lost.hidden = false;
            }
        } catch {
            lost.hidden = false;
        }
        asking = false;
        later();
    }

    function later() {
        clearTimeout(timer);
        if (!over && !document.hidden) {
            timer = setTimeout(ask, lost.hidden && page.dataset.state === "running" ? RUNNING : PAUSED);
        }
    }

    document.addEventListener("visibilitychange", () => {
        clearTimeout(timer);
        if (!over && !document.hidden && !asking) {
            ask();
        }
    });
    // From the browser's memory of the page, as it was when it was left.
    window.addEventListener("pageshow", (event) => {
        if (event.persisted && !asking) {
            ask();
        }
    });
    later();
}
