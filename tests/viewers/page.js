// One OME-Zarr store in Viv: what it reads stands in window.told, the picture on the page.
import { loadOmeZarr } from "@vivjs/loaders";
import { PictureInPictureViewer } from "@vivjs/viewers";
import { createElement } from "react";
import { createRoot } from "react-dom/client";

const COLOUR = [213, 94, 0];

async function show() {
  const asked = new URL(location).searchParams;
  const { data, metadata } = await loadOmeZarr(asked.get("source"), { type: "multiscales" });
  const selection = { c: Number(asked.get("channel")) };
  const levels = await Promise.all(data.map((level) => level.getRaster({ selection })));
  createRoot(document.getElementById("root")).render(createElement(PictureInPictureViewer, {
    loader: data, selections: [selection], colors: [COLOUR], contrastLimits: [[0, 255]],
    channelsVisible: [true], height: 700, width: 900, overview: {}, overviewOn: false,
  }));
  window.told = {
    axes: data[0].labels,
    sums: levels.map((level) => level.data.reduce((sum, value) => sum + value, 0)),
    shapes: levels.map((level) => [level.height, level.width]),
    scales: metadata.multiscales[0].datasets.map((d) => d.coordinateTransformations[0].scale),
  };
}

show().catch((error) => { window.told = { failed: String(error) }; });
