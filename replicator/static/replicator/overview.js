// Keeps the pages of targets and of the work at them up to date while somebody looks at them.
"use strict";
{
    // Patience with one answer.
    const LIMIT = 15000;

    const page = document.querySelector("[data-replicator-live]");
    if (page) {
        keepFresh(page);
    }

    function keepFresh(page) {
        const [lost, ended] = ["[data-lost]", "[data-ended]"].map((one) => page.querySelector(one));
        const every = Number(page.dataset.every);
        let over = "over" in page.dataset;
        let timer = 0;
        let asking = false;
        page.querySelector("[data-plain]")?.remove();

        function show(found) {
            for (const part of page.querySelectorAll("[data-part]")) {
                const html = found.parts[part.dataset.part];
                if (html !== undefined) {
                    const fresh = document.createElement("template");
                    fresh.innerHTML = html;
                    follow(part, fresh.content);
                }
            }
            // Whoever was about to press what is gone is not sent back to the top of the page.
            if (document.activeElement === document.body && page.dataset.focused === "yes") {
                page.tabIndex = -1;
                page.focus({preventScroll: true});
            }
            over = found.over;
        }

        async function ask() {
            asking = true;
            page.dataset.focused = page.contains(document.activeElement) ? "yes" : "no";
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
                timer = setTimeout(ask, lost.hidden ? every : 3 * every);
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
        if (!over) {
            later();
        }
    }

    // Makes the children of *old* those of *fresh*. Only what differs is touched: a screen reader says what changes,
    // and a selection, or what has the focus, stays.
    function follow(old, fresh) {
        let next = old.firstChild;
        for (const wanted of [...fresh.childNodes]) {
            const key = wanted.dataset?.key;
            let found = next;
            if (key !== undefined) {
                // What has a name is known by it, wherever it stood.
                found = [...old.childNodes].find((one) => one.dataset?.key === key) ?? null;
                if (found && found !== next) {
                    old.insertBefore(found, next);
                }
            }
            if (found && found.dataset?.key === key && found.nodeName === wanted.nodeName) {
                next = found.nextSibling;
                match(found, wanted);
            } else {
                old.insertBefore(wanted, next);
            }
        }
        while (next) {
            const gone = next;
            next = next.nextSibling;
            gone.remove();
        }
    }

    function match(old, wanted) {
        if (old.nodeType !== Node.ELEMENT_NODE) {
            if (old.nodeValue !== wanted.nodeValue) {
                old.nodeValue = wanted.nodeValue;
            }
            return;
        }
        for (const {name} of [...old.attributes]) {
            if (!wanted.hasAttribute(name)) {
                old.removeAttribute(name);
            }
        }
        for (const {name, value} of wanted.attributes) {
            if (old.getAttribute(name) !== value) {
                old.setAttribute(name, value);
            }
        }
        follow(old, wanted);
    }
}
