"""The program for assistants: the MCP server that Gradio brings, behind the same sign-in as all else.

Gradio leaves its MCP server open where the page asks who comes, and calls the program by the address that a request
names. Here it lets in those alone whom the guard knows, and calls the program by the address at which the request came.
"""

from ipaddress import ip_address

from gradio.mcp import GradioMCPServer
from gradio.routes import App
from gradio_client import Client
from starlette.routing import Mount
from starlette.types import Scope

from pipeline.web.body_limit import LimitedBodies
from pipeline.web.guard import Admits, Guarded

MCP = "/gradio_api/mcp"
MCP_BYTES = 64_000_000  # files come inside the requests, in base64


def guard_assistants(pages: App, server: GradioMCPServer, admits: Admits, credentials: tuple[str, str] | None) -> None:
    """Let `server`, a part of `pages`, serve those alone whom `admits` knows; itself it signs in with `credentials`."""
    place = next(route for route in pages.routes if isinstance(route, Mount) and route.path == MCP)
    place.app = Guarded(LimitedBodies(place.app, MCP_BYTES), admits)

    def client() -> Client:
        if server._client_instance is None:
            address = own_address(server.mcp_server.request_context.request.scope)
            options = {"download_files": False, "verbose": False, "analytics_enabled": False}
            server._client_instance = Client(address, auth=credentials, headers={"x-gradio-user": "mcp"}, **options)
        return server._client_instance

    server._get_or_create_client = client


def own_address(scope: Scope) -> str:
    """Where the program was reached by the request `scope`, whatever host the request names."""
    host, port = scope["server"]
    return f"http://[{host}]:{port}" if ip_address(host).version == 6 else f"http://{host}:{port}"
