// Keeps a page up to date while somebody looks at it and what it shows is not over.
"use strict";

// *show* puts one answer onto the page, and says whether it was the last one. *pause*: milliseconds until the next one
// is asked for, as long as answers come.
function replicatorPolling(page, show, pause) {
    // Patience with one answer.
    const LIMIT = 15000;

    const [lost, ended] = ["[data-lost]", "[data-ended]"].map((one) => page.querySelector(one));
    let over = "over" in page.dataset;
    let timer = 0;
    let asking = false;
    page.querySelector("[data-plain]")?.remove();

    async function ask() {
        asking = true;
        try {
            const answer = await fetch(page.dataset.poll, {
                headers: {Accept: "application/json"},
                signal: AbortSignal.timeout(LIMIT),
            });
            if (answer.redirected || [401, 403, 404].includes(answer.status)) {
                // Logged out, not allowed any more, or there is no such thing any more.
                over = true;
                ended.hidden = false;
            } else if (answer.ok) {
                over = show(await answer.json());
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
            timer = setTimeout(ask, lost.hidden ? pause() : 3 * pause());
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
