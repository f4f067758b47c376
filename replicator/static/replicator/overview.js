// The pages of targets and of the work at them, as polling.js keeps them up to date.
"use strict";
{
    const page = document.querySelector("[data-replicator-live]");
    if (page) {
        keepFresh(page);
    }

    function keepFresh(page) {
        const every = Number(page.dataset.every);

        function show(found) {
            const focused = page.contains(document.activeElement);
            for (const part of page.querySelectorAll("[data-part]")) {
                const html = found.parts[part.dataset.part];
                if (html !== undefined) {
                    const fresh = document.createElement("template");
                    fresh.innerHTML = html;
                    follow(part, fresh.content);
                }
            }
            // Whoever was about to press what is gone is not sent back to the top of the page.
            if (focused && !page.contains(document.activeElement)) {
                page.tabIndex = -1;
                page.focus({preventScroll: true});
            }
            return found.over;
        }

        replicatorPolling(page, show, () => every);
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
