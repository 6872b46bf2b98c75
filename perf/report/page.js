// Vega-Embed is `vegaEmbed` here: this file is bundled with it.

function valueOf(row, column) {
  const cell = row.cells[column];
  if (!("value" in cell.dataset)) return cell.textContent;
  return cell.dataset.value === "" ? null : Number(cell.dataset.value);
}

function compare(one, other) {
  if (typeof one === "number" && typeof other === "number") return one - other;
  return String(one).localeCompare(String(other), undefined, { numeric: true });
}

function sort(table, column, header) {
  const falling = header.getAttribute("aria-sort") === "descending";
  const numbers = header.classList.contains("number");
  const risen = header.getAttribute("aria-sort") === "ascending";
  const down = numbers ? !falling : risen;
  const body = table.tBodies[0];
  const rows = Array.from(body.rows);
  rows.sort((a, b) => {
    const one = valueOf(a, column);
    const other = valueOf(b, column);
    // What is not known comes last, whichever way.
    if (one === null || other === null) return (one === null) - (other === null);
    return down ? compare(other, one) : compare(one, other);
  });
  body.append(...rows);
  for (const each of table.tHead.rows[0].cells) each.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", down ? "descending" : "ascending");
}

for (const table of document.querySelectorAll("table.sortable")) {
  Array.from(table.tHead.rows[0].cells).forEach((header, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...header.childNodes);
    button.addEventListener("click", () => sort(table, column, header));
    header.append(button);
  });
}

const charts = JSON.parse(document.getElementById("charts").textContent);
const options = {
  mode: "vega-lite",
  renderer: "svg",
  actions: false,
  // Expressions are interpreted: the page allows no code made from text.
  ast: true,
  defaultStyle: false,
  tooltip: { disableDefaultStyle: true },
};
const drawn = Object.entries(charts).map(([id, chart]) => {
  const place = document.getElementById(id);
  // The curves are named by configurations, the others by a word or two.
  const each = id.startsWith("p") ? 270 : 150;
  chart.config.legend.columns = Math.max(1, Math.floor(place.clientWidth / each));
  chart.config.axis.labelLimit = Math.max(120, place.clientWidth * 0.35);
  return vegaEmbed(place, chart, options).catch((problem) => {
    place.textContent = `This chart could not be drawn: ${problem.message}`;
    throw problem;
  });
});
Promise.all(drawn).then(() => {
  document.documentElement.dataset.drawn = drawn.length;
});
