"use strict";

// Sort a table by a click on a heading: numbers by value, text by letter, missing cells last either way.
function makeSortable(table) {
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
document.querySelectorAll("table").forEach(makeSortable);

// Names come from outside: they enter the page as text nodes only.
function build(tag, text = "", attributes = {}) {
  const node = document.createElement(tag);
  node.textContent = text;
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  return node;
}

function linkRun(runId, text) {
  const address = trials.link + encodeURIComponent(runId);
  return build("a", text ?? address, { href: address, target: "_blank", rel: "noopener noreferrer" });
}

// A click on a trial keeps its configuration under the figure, with the address of its MLflow run.
function pinTrial(runId, figure) {
  const row = trials.trials[runId];
  if (!row) return;
  const [arm, , name] = row;
  const panel = build("div", "", { class: "pinned", role: "region", "aria-label": `${arm}, ${name}`, tabindex: "-1" });
  const head = build("div", "", { class: "pinned-head" });
  const close = build("button", "Close", { type: "button" });
  close.addEventListener("click", () => panel.remove());
  head.append(build("strong", `${arm}, ${name}`), close);
  const facts = build("dl");
  const pairs = [...trials.columns.slice(3).map((column, place) => [column, row[place + 3]]), ...Object.entries(trials.common)];
  for (const [key, value] of pairs) if (value !== "") facts.append(build("dt", key), build("dd", String(value)));
  const address = build("p");
  address.append("MLflow run: ", linkRun(runId));
  panel.append(head, facts, address);
  if (trials.serve) {
    const serve = build("p", "The address answers while this runs: ", { class: "caption" });
    serve.append(build("code", trials.serve));
    panel.append(serve);
  }
  figure.parentElement.querySelectorAll(".pinned").forEach((other) => other.remove());
  figure.after(panel);
}

// The list of all trials is built when it is opened: a thousand rows that few will look at.
function listTrials(details) {
  const table = build("table", "", { id: "trials-table" });
  const head = table.createTHead().insertRow();
  for (const column of [...trials.columns, "MLflow run"]) {
    const heading = build("th", "", { scope: "col", "aria-sort": "none" });
    heading.append(build("button", column, { type: "button" }));
    head.append(heading);
  }
  const body = table.createTBody();
  for (const [runId, row] of Object.entries(trials.trials)) {
    const line = body.insertRow();
    for (const value of row) line.append(build("td", value === "" ? "–" : String(value), { "data-value": value }));
    const cell = build("td", "", { "data-value": runId });
    cell.append(linkRun(runId, runId.slice(0, 8)));
    line.append(cell);
  }
  const scroll = build("div", "", { class: "scroll tall", tabindex: "0", role: "region", "aria-label": "trials" });
  scroll.append(table);
  details.append(scroll);
  makeSortable(table);
}

// A trace of many lines names each once; here every point of a line learns whose it is and what a hover says.
function nameLines(plot) {
  const traces = plot.data.filter((trace) => trace.meta?.runs);
  for (const trace of traces) {
    const repeat = (values) => values.flatMap((value) => Array(trace.meta.steps).fill(value));
    trace.customdata = repeat(trace.meta.runs);
    trace.hovertext = repeat(trace.meta.texts);
  }
  if (traces.length) Plotly.redraw(plot);
}
document.querySelectorAll(".js-plotly-plot").forEach(nameLines);

const data = document.getElementById("trials-data");
const trials = data ? JSON.parse(data.textContent) : null;
if (trials) {
  for (const plot of document.querySelectorAll(".js-plotly-plot")) {
    plot.on("plotly_click", (event) => pinTrial([event.points[0].customdata].flat()[0], plot.closest(".figure")));
  }
  const details = document.getElementById("trials");
  details.addEventListener("toggle", () => listTrials(details), { once: true });
}
