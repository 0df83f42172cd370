"use strict";
// Layers in the order in which they lie on each other; those after the first can be switched off.
const LAYERS = ["slide", "probability", "objects"];

// A pyramid as OpenSeadragon counts it: its highest level is the server's level 0.
function source(facts, layer) {
  const last = facts.levels - 1;
  return {
    width: facts.width,
    height: facts.height,
    tileSize: facts.tile,
    minLevel: 0,
    maxLevel: last,
    getTileUrl: (level, x, y) => `tiles/${layer}/${last - level}/${y}_${x}`,
  };
}

function shownPlace(viewer, facts, event) {
  const point = viewer.world.getItemAt(0).viewerElementToImageCoordinates(event.position);
  const [y, x] = [Math.floor(point.y), Math.floor(point.x)];
  if (y < 0 || x < 0 || y >= facts.height || x >= facts.width) return "";
  if (!facts.pixel_um) return `y ${y} px, x ${x} px`;
  const [mm_y, mm_x] = [y * facts.pixel_um[0] / 1000, x * facts.pixel_um[1] / 1000];
  return `y ${y} px, x ${x} px (${mm_y.toFixed(3)} mm, ${mm_x.toFixed(3)} mm)`;
}

async function show() {
  const facts = await (await fetch("slide.json")).json();
  document.title = document.getElementById("name").textContent = facts.name;
  const viewer = OpenSeadragon({
    id: "picture",
    prefixUrl: "openseadragon/images/",
    tileSources: LAYERS.map((layer) => source(facts, layer)),
    maxZoomPixelRatio: 8,
    showNavigator: false,
    imageSmoothingEnabled: false,
    drawer: "canvas", // WebGL draws half transparent tiles too bright (seen with 6.1.1)
  });
  const opacity = document.getElementById("opacity");
  const apply = () => LAYERS.forEach((layer, number) => {
    const item = viewer.world.getItemAt(number);
    const box = document.getElementById(layer);
    if (item && box) item.setOpacity(box.checked ? Number(opacity.value) : 0);
  });
  viewer.addHandler("open", apply);
  for (const control of document.querySelectorAll("input")) {
    control.addEventListener("input", apply);
  }
  new OpenSeadragon.MouseTracker({
    element: viewer.container,
    moveHandler: (event) => {
      document.getElementById("place").textContent = shownPlace(viewer, facts, event);
    },
  });
  window.viewer = viewer; // for the test
}

show();
