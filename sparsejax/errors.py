"""What ends a program in one line: mistakes of the user's, a disk that fails, Ctrl-C."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterator


class UserError(Exception):
    """A mistake of the user's, said in one line: what, the value, what to do."""


class Stopped(KeyboardInterrupt):
    """This process was asked to stop; the text says what becomes of the work."""


STOPPED = 75  # the exit status then: EX_TEMPFAIL of sysexits.h, worth starting again


def short(text: str) -> str:
    """A value as messages show it: quoted, on one line, and cut if it is long."""
    return repr(text if len(text) <= 60 else text[:60] + "...")


# A full disk, a directory that became read-only, a mount that vanished, a file in the way.
_DISK_ERRORS = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.ENOENT,
    errno.ENOTEMPTY,
    errno.EPERM,
    errno.ETIMEDOUT,
    errno.EROFS,
    errno.EACCES,
    errno.EIO,
    errno.ESTALE,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EEXIST,
)


@contextlib.contextmanager
def one_line(stopped: str) -> Iterator[None]:
    """The frame of a program: what is no fault of the program's ends it with one line.

    The exit status is 1, or STOPPED for a run that can go on.

    Args:
      stopped: what is said after Ctrl-C.
    """
    try:
        yield
    except UserError as error:
        sys.exit(f"error: {error}")
    except BrokenPipeError:  # the output went to head, say, which has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        if error.errno not in _DISK_ERRORS:
            raise
        sys.exit(f"error: {error.filename or 'output'}: {error.strerror}")
    except Stopped as stop:
        sys.stderr.write(f"{stop}\n")
        sys.exit(STOPPED)
    except KeyboardInterrupt:
        sys.exit(stopped)
