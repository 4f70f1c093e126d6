"""Who may come in: nobody has to sign in where only this machine can call, everybody else has to.

A password that was chosen is asked for there too: a tunnel may lead others to this machine's own address.
"""

import asyncio
import ipaddress
import logging
import os
import secrets
from pathlib import Path

from pipeline.errors import InvalidSetting
from pipeline.settings import Settings

logger = logging.getLogger(__name__)

PASSWORD_FILE = "password"  # in OUTPUT_DIR
ANSWER_S = 2.0  # until an answer comes, a yes like a no: who does not wait for it learns nothing
MOST_WAITING = 10  # who may wait for an answer at once, so that all who guess together get five answers a second


def credentials(settings: Settings, folder: Path) -> tuple[str, str] | None:
    """The name and password to sign in with; None where nobody has to.

    Without APP_PASSWORD one is made up once, kept in `folder` and told in the log at each start.
    """
    if settings.app_auth == "off":
        return None
    if os.environ.get("SPACE_ID"):
        if settings.app_password:
            logger.warning("APP_PASSWORD is not asked for on a Space: who may see the Space may use it.")
        return None
    if settings.app_password:
        return settings.app_username, settings.app_password
    if is_loopback(settings.host):
        return None
    password = kept_password(folder)
    logger.info("Sign in as %s with the password %s", settings.app_username, password)
    return settings.app_username, password


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach what listens on `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def kept_password(folder: Path) -> str:
    """The password in `folder`, made up (about 96 random bits) and kept there if there is none.

    Only the owner may read the file, where the file system knows of owners. Raises InvalidSetting.
    """
    file = folder / PASSWORD_FILE
    try:
        if file.exists() and (password := file.read_text().strip()):
            return password
        password = secrets.token_urlsafe(12)
        folder.mkdir(parents=True, exist_ok=True)
        new = folder / f".{PASSWORD_FILE}-{secrets.token_hex(4)}"
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
            out.write(password + "\n")
        os.replace(new, file)
        return password
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidSetting(f"{file} cannot be used ({error}): set APP_PASSWORD or another OUTPUT_DIR.") from error


class Doorkeeper:
    """Lets in who knows the name and the password. Guessing is slow, however many guess.

    While so many guess that all places are taken, whoever knows the password is turned away, too, and has to try again.
    """

    def __init__(self, name: str, password: str) -> None:
        self._expected = f"{name}\n{password}".encode()
        self._waiting = 0

    async def admits(self, name: str, password: str) -> bool:
        """Whether this is the name and the password; the answer comes late, or is no where too many wait for one."""
        if self._waiting >= MOST_WAITING:
            logger.warning("Somebody was not let in unheard: too many try to sign in at once.")
            return False
        self._waiting += 1
        try:
            await asyncio.sleep(ANSWER_S)
        finally:
            self._waiting -= 1
        return secrets.compare_digest(f"{name}\n{password}".encode(), self._expected)
