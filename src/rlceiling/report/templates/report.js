"use strict";
// Without this script every table stands as it was written.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const headers = [...table.tHead.rows[0].cells];
  headers.forEach((header, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...header.childNodes);
    header.append(button);
    const value = (row) => row.cells[column].dataset.value;
    const numeric = [...body.rows].every((row) => value(row) === "nan" || !Number.isNaN(Number(value(row) || "x")));
    button.addEventListener("click", () => {
      const up = header.getAttribute("aria-sort") !== "ascending";
      headers.forEach((other) => other.removeAttribute("aria-sort"));
      header.setAttribute("aria-sort", up ? "ascending" : "descending");
      const order = (a, b) => {
        if (!numeric) return (up ? 1 : -1) * a.localeCompare(b, undefined, { numeric: true });
        if (a === "nan" || b === "nan") return (a === "nan") - (b === "nan"); // unknown last, either way
        return (up ? 1 : -1) * (a - b);
      };
      const rows = [...body.rows].map((row) => [value(row), row]);
      rows.sort(([a], [b]) => order(a, b));
      body.append(...rows.map(([, row]) => row));
    });
  });
}
