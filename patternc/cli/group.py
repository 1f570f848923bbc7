"""The command group: finds a command when it is called, and turns failures into messages and exit statuses."""

from __future__ import annotations

from importlib import import_module

import click

from patternc.cli import inputs
from patternc.cli.terminal import colour, say_error
from patternc.errors import SpatError, render
from patternc.suggest import guess

COMMANDS = {
    "check": "check",
    "fmt": "fmt",
    "show": "show",
    "explain": "explain",
    "compile": "compile",
    "verify": "verify",
    "bench": "bench",
    "list": "library",
    "doctor": "doctor",
}
"""Each command and its module in this package."""


class Commands(click.Group):
    """A group that imports a command's module only when that command is wanted."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in COMMANDS:
            command = import_module(f"patternc.cli.{COMMANDS[cmd_name]}").command
            assert isinstance(command, click.Command), f"{cmd_name} has no command"
            return command
        if cmd_name.startswith("-"):
            return None
        meant = guess(cmd_name, COMMANDS) or f"; there are {', '.join(COMMANDS)}"
        return ctx.fail(f"No command {cmd_name!r}{meant}")

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except SpatError as error:
            click.echo(render(error.diagnostics, colour=colour(err=True)), err=True)
            status = inputs.status(error)
        except BrokenPipeError:
            raise  # click ends quietly
        except OSError as error:
            say_error(_os_message(error))
            status = 2
        except (ValueError, TypeError) as error:
            say_error(str(error))
            status = 2
        except MemoryError:
            say_error("there is not enough memory for this")
            status = 2
        except KeyboardInterrupt:
            status = 130
        return ctx.exit(status)


def _os_message(error: OSError) -> str:
    reason = (error.strerror or str(error)).lower()
    return f"{error.filename}: {reason}" if error.filename is not None else reason


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="patternc", message="patternc %(version)s")
def patternc() -> None:
    """A compiler for attention patterns.

    A .spat file says which queries attend to which keys. FILE is such a file, `std/<name>` for one of the library that
    ships with patternc (`patternc list` shows it), or `-` for standard input.
    """
