// Boxes of apps and models that tick, and follow, the boxes of the file fields below them.
"use strict";
for (const tree of document.querySelectorAll(".replicator-tree")) {
    const boxes = [...tree.querySelectorAll("[data-tree]")];
    const leaves = boxes.filter((box) => box.name);
    const parents = boxes.filter((box) => !box.name);
    const below = (parent) =>
        leaves.filter((leaf) => !parent.dataset.tree || leaf.dataset.tree.startsWith(`${parent.dataset.tree}.`));

    function follow() {
        for (const parent of parents) {
            const fields = below(parent);
            const ticked = fields.filter((field) => field.checked).length;
            parent.checked = fields.length > 0 && ticked === fields.length;
            parent.indeterminate = ticked > 0 && ticked < fields.length;
        }
    }

    for (const parent of parents) {
        parent.hidden = false;
        parent.closest("[hidden]")?.removeAttribute("hidden");
        parent.addEventListener("change", () => {
            for (const field of below(parent)) {
                field.checked = parent.checked;
            }
            follow();
        });
    }
    for (const leaf of leaves) {
        leaf.addEventListener("change", follow);
    }
    // A browser that goes back to a form ticks its boxes only after this.
    window.addEventListener("pageshow", follow);
    follow();
}
