// Draws the charts that the page has data for, in the colours of the page.
"use strict";

function draw(place) {
  const [times, scores, files] = JSON.parse(place.dataset.series);
  const style = getComputedStyle(document.documentElement);
  const color = (name) => style.getPropertyValue(name).trim();
  const axis = { stroke: color("--text"), grid: { stroke: color("--line") }, ticks: { stroke: color("--line") } };
  place.replaceChildren();
  new uPlot(
    {
      width: place.clientWidth,
      height: 220,
      scales: { health: { range: [0, 100] }, files: {} },
      axes: [
        axis,
        { ...axis, scale: "health", label: "health" },
        { ...axis, scale: "files", label: "data files", side: 1, grid: { show: false } },
      ],
      series: [
        {},
        { label: "Health", scale: "health", stroke: color("--good"), width: 2 },
        { label: "Data files", scale: "files", stroke: color("--accent"), width: 1 },
      ],
    },
    [times, scores, files],
    place,
  );
}

function drawAll() {
  document.querySelectorAll(".chart[data-series]").forEach(draw);
}

addEventListener("DOMContentLoaded", drawAll);
addEventListener("resize", drawAll);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
