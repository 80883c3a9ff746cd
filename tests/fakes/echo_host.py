"""Runs the host with the echo service: `python -m tests.fakes.echo_host --listen … --catalog …`."""

from services.runtime import host, settings
from tests.fakes import echo


def main() -> None:
    host.run(echo.SERVICE, settings.service_settings("echo"))


if __name__ == "__main__":
    main()
