"""Writes a member's configuration files, and removes from the data directory what would override them."""

from __future__ import annotations

from twinstar.engine.postgresql import access
from twinstar.engine.postgresql.configuration import main_conf, own_names
from twinstar.engine.postgresql.files import keep_durably, scrub_auto_conf
from twinstar.engine.postgresql.settings import Settings
from twinstar.model.errors import EngineError


def write_conf_files(settings: Settings, *, closed: bool = False) -> None:
    """Everything in ``conf/`` but ``twinstar.conf``. `closed`: see `access`.

    Raises EngineError when a file of TLS cannot be read.
    """
    paths = settings.paths
    files = {
        paths.main_conf: main_conf(settings),
        paths.conf / "pg_hba.conf": access.hba_conf(settings, closed=closed),
        paths.conf / "pg_ident.conf": access.ident_conf(settings),
        paths.passfile: access.passfile(settings),
    }
    if settings.tls:
        # Copied, because the server runs as a user that may not read the originals.
        originals = {
            "server.crt": settings.tls.certificate,
            "server.key": settings.tls.key,
            "authority.crt": settings.tls.authority,
        }
        try:
            files |= {paths.conf / name: original.read_text() for name, original in originals.items()}
        except OSError as error:
            raise EngineError(f"{error.filename} cannot be read ({error.strerror}): correct `tls`.") from None
    for path, text in files.items():
        keep_durably(path, text, account=settings.account)


def is_closed(settings: Settings) -> bool:
    """Whether clients are not let in, by what stands in the file."""
    file = settings.paths.conf / "pg_hba.conf"
    return file.exists() and access.CLOSED in file.read_text().splitlines()


def open_to_clients(settings: Settings) -> bool:
    """Lets clients in, once the server has read its configuration again. False if they were let in before."""
    if not is_closed(settings):
        return False
    keep_durably(settings.paths.conf / "pg_hba.conf", access.hba_conf(settings), account=settings.account)
    return True


def scrub(settings: Settings) -> tuple[str, ...]:
    """Removes settings of ours from ``postgresql.auto.conf``; returns those that were there."""
    return scrub_auto_conf(settings.paths.data, own_names(), settings.account)
