"""The web application as a whole: health for those who operate it, page and API for those who use it."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path

import gradio as gr
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from gradio import processing_utils
from starlette.routing import Mount

from pipeline.jobs.team import Team
from pipeline.jobs.worker import Worker
from pipeline.web.assistants import MCP, guard_assistants
from pipeline.web.body_limit import LimitedBodies
from pipeline.web.frontend import frontend_routes
from pipeline.web.guard import admitting
from pipeline.web.page import STYLE, THEME, build_page
from pipeline.web.plain import job_routes
from pipeline.web.signin import Doorkeeper
from pipeline.web.studio import Studio
from pipeline.web.upload_room import UPLOAD, upload_route

LARGEST_UPLOAD = "500mb"
ADDRESS_SENT = (
    "An address is no file here: send the file itself (with gradio_client, handle_file(PATH); through MCP, a data: "
    "address)."
)
SIGN_IN = "Talking video. Whoever runs the program knows name and password; its log tells one that was made up."
WORDED_CALLS = "/gradio_api/call/v2/"
CLOSE_SECONDS = 2  # that connections are waited for at the end
STOP_SECONDS = 5  # that the worker is waited for at the end; its job goes on at the next start all the same


def build_site(studio: Studio, credentials: tuple[str, str] | None) -> FastAPI:
    """The application that serves `studio`, to those alone who sign in with `credentials` if there are some.

    The worker runs for as long as the application does.
    """

    @asynccontextmanager
    async def working(_: FastAPI) -> AsyncIterator[None]:
        studio.worker.start()
        if studio.idle:
            studio.idle.start()
        yield
        if studio.idle:
            studio.idle.close()
        await asyncio.to_thread(studio.worker.stop, STOP_SECONDS)

    processing_utils.async_ssrf_protected_download = refuse_address
    site = FastAPI(lifespan=working, openapi_url=None)
    site.add_middleware(LimitedBodies, exempt=(UPLOAD, MCP))  # these have limits of their own
    _add_health(site, studio.worker)
    page = build_page(studio)
    page.has_launched = True  # or Gradio would not check in a mounted page that files were uploaded
    doorkeeper = Doorkeeper(*credentials) if credentials else None
    gr.mount_gradio_app(
        site,
        page,
        path="/",
        auth=doorkeeper.admits if doorkeeper else None,
        auth_message=SIGN_IN,
        max_file_size=LARGEST_UPLOAD,
        footer_links=["api", "settings"],
        run_history=False,
        ssr_mode=False,
        mcp_server=True,
        enable_monitoring=False,
        theme=THEME,
        css_paths=Path(STYLE),
    )
    pages = next(route.app for route in site.routes if isinstance(route, Mount))
    page.app = pages  # as where Gradio launches a page: its queue calls functions for this application
    pages.add_exception_handler(TypeError, explain_wrong_call)
    pages.add_exception_handler(KeyError, explain_wrong_call)
    admits = admitting(pages, doorkeeper)
    guard_assistants(pages, page.mcp_server_obj, admits, credentials)
    # Before the page's own, which take all addresses.
    site.router.routes[:0] = [*job_routes(studio.queue, admits), upload_route(pages), *frontend_routes(pages)]
    return site


async def refuse_address(url: str, cache_dir: str) -> str:
    """In the place of what Gradio has for addresses that are sent as files: it fetches them whole, into memory."""
    raise gr.Error(ADDRESS_SENT, print_exception=False)


async def explain_wrong_call(request: Request, error: Exception) -> JSONResponse:
    """What is wrong with a call by names, for which Gradio raises the sentence; nothing of other errors is told."""
    start, found, name = request.url.path.partition(WORDED_CALLS)
    if start or not found:
        raise error
    if isinstance(error, TypeError):
        logging.getLogger(__name__).warning("A wrong call of %r", name, exc_info=error)
        return JSONResponse({"detail": str(error)}, 422)
    if error.args == (f"/{name}",):
        return JSONResponse({"detail": "There is no such endpoint; /gradio_api/info lists them."}, 404)
    raise error


class SiteServer(uvicorn.Server):
    """Serves a site, and at the end closes the streams that pages keep open for as long as they are looked at."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End: what still goes on after a moment is cut off, which is not worth an entry in the log."""
        for mount in self.config.app.routes:
            if isinstance(mount, Mount):
                mount.app.stop_event.set()
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        await super().shutdown(sockets)


def build_server(site: FastAPI) -> SiteServer:
    """What serves `site` on sockets that are given to its `run`."""
    # No log of uvicorn's own: what it tells goes the way of all else, past the formatter that cuts keys.
    return SiteServer(
        uvicorn.Config(site, log_config=None, log_level="warning", timeout_graceful_shutdown=CLOSE_SECONDS)
    )


def _add_health(site: FastAPI, worker: Worker | Team) -> None:
    @site.api_route("/healthz", methods=["GET", "HEAD"])
    async def healthz() -> JSONResponse:
        """Whether the process lives."""
        return JSONResponse({"status": "alive"})

    @site.api_route("/readyz", methods=["GET", "HEAD"])
    async def readyz() -> JSONResponse:
        """Whether the model can generate, and if not, how far it is."""
        state = worker.model_state
        return JSONResponse(asdict(state), 200 if state.state == "ready" else 503)
