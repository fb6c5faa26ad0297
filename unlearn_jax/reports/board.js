(() => {
  const form = document.getElementById("filters"), table = document.getElementById("board");
  if (!form || !table) return;
  form.hidden = false;
  const studies = [...table.tBodies];
  const rows = (body) => [...body.rows].slice(1);
  const show = () => {
    const field = (name) => form.elements[name].value.trim().toLowerCase();
    const most = field("cost") === "" ? Infinity : Number(field("cost"));
    let shown = 0, all = 0;
    for (const body of studies) {
      const fits = ["dataset", "similarity"].every((k) => !field(k) || body.dataset[k].toLowerCase() === field(k));
      let left = 0;
      for (const row of rows(body)) {
        const always = row.classList.contains("always"), reference = row.classList.contains("reference");
        const cost = Number(row.cells[6].dataset.v ?? "NaN");
        row.hidden = !always && !(row.dataset.name.includes(field("method")) && (most === Infinity || cost <= most));
        if (!reference) { all += 1; left += !row.hidden; }
      }
      const narrowed = field("method") !== "" || most !== Infinity;
      body.hidden = !fits || (narrowed && left === 0);
      if (!body.hidden) shown += left;
    }
    form.elements.shown.value = `${shown} of ${all} shown`;
  };
  const sort = (head, column) => {
    const down = head.getAttribute("aria-sort") === "ascending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const key = (row) => column === 0 ? row.dataset.name : Number(row.cells[column].dataset.v ?? "NaN");
    const unclear = (row) => column === 2 && "unclear" in row.dataset;
    const compare = (a, b) => {
      if (unclear(a) !== unclear(b)) return unclear(a) - unclear(b);
      const [x, y] = [key(a), key(b)];
      if (x !== x || y !== y) return (x !== x) - (y !== y);
      return (x < y ? -1 : x > y ? 1 : 0) * (down ? -1 : 1);
    };
    for (const body of studies) body.append(...rows(body).sort(compare));
  };
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    if (column === 1) return;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    button.addEventListener("click", () => sort(head, column));
    head.append(button);
  });
  table.tHead.rows[0].cells[2].setAttribute("aria-sort", "ascending");
  form.addEventListener("input", show);
  form.addEventListener("reset", () => setTimeout(show));
  form.addEventListener("submit", (event) => event.preventDefault());
  show();
})();
