"""One slide's result in the browser: make view SLIDE=hela

    python workflow/view.py SLIDE [--configfile mine.yaml ...] [--config KEY=VALUE] [--port 8000]

Serves the slide with outlines and probabilities over it, and the results folder for other viewers,
on this machine only, until it is stopped.
"""

import argparse
import asyncio
import difflib
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "scripts"))

from slideunet import command_line
from slideunet.errors import UserError

PROJECT = Path(__file__).parents[1]
VIEWER = PROJECT / "viewer"


def slide_folder(results: Path, name: str) -> Path:
    """The folder of a slide's results. Raises UserError where there is none."""
    known = sorted(path.parent.name for path in (results / "slides").glob("*/slide.json"))
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(known) or 'none'}"
        raise UserError(f"{results}/slides: no slide {name!r}: {hint}")
    return results / "slides" / name


async def serve(name: str, results: Path, port: int) -> None:
    """Until it is cancelled."""
    from slideunet.view_server import application
    from slideunet.viewer_tiles import SlideTiles
    from tornado.httpserver import HTTPServer
    from tornado.netutil import bind_sockets

    tiles = SlideTiles(slide_folder(results, name))
    try:
        sockets = bind_sockets(port, "127.0.0.1")
        HTTPServer(application(tiles, name, results, VIEWER)).add_sockets(sockets)
        print(f"http://localhost:{sockets[0].getsockname()[1]}/  (Ctrl-C ends it)", flush=True)
        await asyncio.Event().wait()
    finally:
        tiles.close()


def main() -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("slide", nargs="?", default="")
    parser.add_argument("--configfile", "--configfiles", nargs="+", help="as for the run")
    parser.add_argument("--config", "-C", nargs="*")
    parser.add_argument("--port", type=int, default=8000, help="0: any that is free")
    # What else the run was called with (a profile, cores) says nothing of the results.
    given, _ = parser.parse_known_args()
    try:
        if not (VIEWER / "node_modules" / "openseadragon").is_dir():
            raise UserError(f"{VIEWER}: OpenSeadragon is not there: `make view` fetches it by npm")
        results = Path(command_line.read_configuration(sys.argv[1:], PROJECT)["results"])
        if not 0 <= given.port <= 65535:
            raise UserError(f"--port {given.port}: give 0 to 65535")
        asyncio.run(serve(given.slide, results, given.port))
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        print(f"port {given.port}: {error.strerror}: give another --port", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
