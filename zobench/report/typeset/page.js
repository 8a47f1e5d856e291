"use strict";
// What only a script can do: sort the rows of tables, and check all methods or none.

const NUMBER = /^[+-]?(inf|[\d,]*\.?\d+(e[+-]?\d+)?)(?![\w.-])/i;
const MISSING = /^(-|nan|never|same runs|(\d+ )?diverged)?( \(.*\))?$/;

/** The keys by which a column is sorted: null where a cell has no value, numbers if all other cells begin with one. */
function keys(cells) {
  const texts = cells.map((cell) => cell.textContent.trim());
  const known = texts.filter((text) => !MISSING.test(text));
  const number = (text) => Number(NUMBER.exec(text)[0].replaceAll(",", "").replace(/inf/i, "Infinity"));
  const read = known.every((text) => NUMBER.test(text)) ? number : (text) => text;
  return texts.map((text) => (MISSING.test(text) ? null : read(text)));
}

/** Rows in order, those without a value last whichever way; a tie keeps the order of the page. */
function sorted(rows, column, direction) {
  const values = keys(rows.map((row) => row.cells[column]));
  const compare = (a, b) =>
    typeof a === "number" ? a - b || 0 : a.localeCompare(b, "en", { numeric: true });
  const order = (i, j) => {
    const [a, b] = [values[i], values[j]];
    if (a === null || b === null) return (a === null) - (b === null);
    return direction === "ascending" ? compare(a, b) : compare(b, a);
  };
  return [...rows.keys()].sort(order).map((i) => rows[i]);
}

/** Give each heading of a table a button: largest first, then smallest (words the other way), then as it was. */
function sortable(table) {
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const numeric = keys(rows.map((row) => row.cells[column])).some((key) => typeof key === "number");
    const directions = numeric ? ["descending", "ascending"] : ["ascending", "descending"];
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    button.addEventListener("click", () => {
      const next = directions[directions.indexOf(head.getAttribute("aria-sort")) + 1];
      for (const other of heads) other.removeAttribute("aria-sort");
      if (next) head.setAttribute("aria-sort", next);
      body.append(...(next ? sorted(rows, column, next) : rows));
    });
    head.append(button);
  });
}

for (const table of document.querySelectorAll("table")) sortable(table);

for (const button of document.querySelectorAll(".methods button")) {
  button.hidden = false;
  button.addEventListener("click", () => {
    for (const box of document.querySelectorAll(".methods input")) box.checked = button.value === "all";
  });
}
