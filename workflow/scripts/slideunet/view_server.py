"""A server on this machine for the results of one slide: its page, its tiles, and all files.

Files are served with ranges and to pages of any origin (CORS), which viewers that run on a page of
their own (Vizarr) need: as long as the server runs, pages open in a browser of this machine can
read the results folder. Asked for under another name than this machine's own it answers nothing.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tornado import web

from slideunet.viewer_tiles import CHILDREN, TILE_PX, SlideTiles

HOSTS = ("localhost", "127.0.0.1")
POLICY = "default-src 'self'; img-src 'self' data: blob:; style-src 'self' 'unsafe-inline'"


class _Local(web.RequestHandler):
    def prepare(self) -> None:
        if self.request.host_name not in HOSTS:
            raise web.HTTPError(403)


class _Facts(_Local):
    """What the page has to know of the slide."""

    def initialize(self, tiles: SlideTiles, name: str) -> None:
        self.tiles, self.name = tiles, name

    def get(self) -> None:
        height, width = self.tiles.shapes[0]
        self.write(
            {
                "name": self.name, "height": height, "width": width, "tile": TILE_PX,
                "levels": len(self.tiles.shapes), "pixel_um": self.tiles.pixel_um,
            }
        )  # fmt: skip


class _Tile(_Local):
    def initialize(self, tiles: SlideTiles, threads: ThreadPoolExecutor) -> None:
        self.tiles, self.threads = tiles, threads

    async def get(self, layer: str, level: str, row: str, column: str) -> None:
        wanted = layer, int(level), int(row), int(column)
        loop = asyncio.get_running_loop()
        try:
            picture = await loop.run_in_executor(self.threads, self.tiles.tile, *wanted)
        except KeyError:
            raise web.HTTPError(404) from None
        self.set_header("Content-Type", "image/jpeg" if layer == "slide" else "image/png")
        self.finish(picture)


class _Page(_Local, web.StaticFileHandler):
    def set_default_headers(self) -> None:
        self.set_header("Content-Security-Policy", POLICY)


class _Results(_Local, web.StaticFileHandler):
    def set_default_headers(self) -> None:
        self.set_header("Access-Control-Allow-Origin", "*")
        self.set_header("Access-Control-Allow-Headers", "Range")
        self.set_header("Access-Control-Expose-Headers", "Content-Range, Content-Length")

    def options(self, path: str) -> None:
        """A page of another origin asks before it asks for a range."""
        self.set_status(204)


def application(tiles: SlideTiles, name: str, results: Path, page: Path) -> web.Application:
    """The server of one slide.

    tiles : of the slide; name : its id; results : the folder of all results, served as /results/
    page : the folder viewer/ with what `npm ci` put there
    """
    threads = ThreadPoolExecutor(CHILDREN)
    library = page / "node_modules" / "openseadragon" / "build" / "openseadragon"
    return web.Application(
        [
            (r"/slide.json", _Facts, {"tiles": tiles, "name": name}),
            (
                r"/tiles/(slide|objects|probability)/(\d+)/(\d+)_(\d+)",
                _Tile,
                {"tiles": tiles, "threads": threads},
            ),
            (r"/results/(.*)", _Results, {"path": str(results.resolve())}),
            (r"/openseadragon/(.*)", _Page, {"path": str(library)}),
            (
                r"/(index\.html|view\.js|view\.css|)",
                _Page,
                {"path": str(page), "default_filename": "index.html"},
            ),
        ],
        log_function=lambda handler: None,
    )
