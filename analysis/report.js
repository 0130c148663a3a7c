// Sort a table by a click on a heading: numbers by value, text by letter, missing cells last either way.
"use strict";
for (const table of document.querySelectorAll("table")) {
  const headings = [...table.querySelectorAll("th")];
  headings.forEach((heading, column) => heading.querySelector("button").addEventListener("click", () => {
    const descending = heading.getAttribute("aria-sort") === "ascending";
    const body = table.tBodies[0];
    const value = (row) => row.cells[column].dataset.value;
    const rows = [...body.rows];
    const numeric = rows.every((row) => value(row) === "" || !Number.isNaN(Number(value(row))));
    rows.sort((first, second) => {
      const a = value(first);
      const b = value(second);
      if (a === "" || b === "") return (a === "") - (b === "");
      return (descending ? -1 : 1) * (numeric ? Number(a) - Number(b) : a.localeCompare(b));
    });
    headings.forEach((other) => other.setAttribute("aria-sort", "none"));
    heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
    body.append(...rows);
  }));
}
