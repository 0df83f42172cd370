"use strict";
// Sorts and filters the table of slides; all text is already in the page.
(() => {
  const table = document.getElementById("table");
  if (!table) return;
  const body = table.tBodies[0];
  const rows = Array.from(body.rows);
  const words = document.getElementById("words");
  const status = document.getElementById("status");
  const texts = rows.map((row) => row.textContent.toLowerCase());

  function filter() {
    const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    rows.forEach((row, number) => {
      const kind = status.value;
      const fits = !kind || (kind === "warned" ? row.dataset.warned !== "0" : row.dataset.status === kind);
      row.hidden = !(fits && wanted.every((word) => texts[number].includes(word)));
      shown += !row.hidden;
    });
    document.getElementById("shown").textContent = shown + " of " + rows.length;
  }

  function sort(title) {
    const column = title.cellIndex;
    const down = title.getAttribute("aria-sort") === "ascending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    title.setAttribute("aria-sort", down ? "descending" : "ascending");
    const key = (row) => row.cells[column].dataset.value;
    const order = (a, b) => {
      const [x, y] = [key(a), key(b)];
      if (x === undefined || y === undefined) return (x === undefined) - (y === undefined); // empty cells last
      const compared = isNaN(x) || isNaN(y) ? x.localeCompare(y, undefined, { numeric: true }) : x - y;
      return down ? -compared : compared;
    };
    body.append(...rows.slice().sort(order));
  }

  for (const title of table.tHead.rows[0].cells)
    if ("sort" in title.dataset) title.addEventListener("click", () => sort(title));
  words.addEventListener("input", filter);
  status.addEventListener("change", filter);
})();
