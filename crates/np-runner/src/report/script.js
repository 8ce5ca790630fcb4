// A click on a column's head sorts by it, again the other way; a field above a longer table keeps the rows that hold what is typed.
for (const table of document.querySelectorAll("table")) {
  const body = table.tBodies[0], rows = [...body.rows], heads = [...table.tHead.rows[0].cells];
  if (rows.length < 3) continue;
  const number = (text) => {
    const found = text.replace(/\u2212/g, "-").match(/[-+]?\d+(\.\d+)?(e-?\d+)?/i);
    return found ? Number(found[0]) : -Infinity;
  };
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const text = (row) => row.cells[column].textContent.trim();
      const order = rows.every((row) => /^([-+\u2212]?\d|[-\u2013]?$)/.test(text(row)))
        ? (a, b) => number(text(a)) - number(text(b))
        : (a, b) => text(a).localeCompare(text(b), "en", { numeric: true });
      body.append(...[...rows].sort((a, b) => (up ? 1 : -1) * (order(a, b) || 0)));
    });
  });
  if (rows.length < 9) continue;
  const field = Object.assign(document.createElement("input"), { type: "search", placeholder: "filter rows" });
  field.setAttribute("aria-label", "filter the rows of the table below");
  field.addEventListener("input", () => {
    const words = field.value.toLowerCase().split(/\s+/);
    for (const row of rows) row.hidden = !words.every((word) => row.textContent.toLowerCase().includes(word));
  });
  table.parentElement.before(field);
}
