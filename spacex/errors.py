"""What can go wrong, as one tree of exceptions.

::

    SpacexError
    ├── RequestError        the caller asked for something that cannot be done; jobs exit with code 2
    │   ├── CatalogueError  the STAC endpoint, its items or its assets do not fit
    │   ├── CheckpointError a checkpoint is missing, damaged or made for other data
    │   ├── CubeError       the output store is not the one this request may write
    │   └── DataError       a training or evaluation data set is not laid out as published
    └── TileError           one tile could not be read, computed or written; the run goes on

Every message is one line: what is wrong, what was got, what was expected, what to do.
"""

from __future__ import annotations


class SpacexError(Exception):
    """Base of all errors raised on purpose by this package.

    Args:
        what: what is wrong, naming the thing (a file, a band, an option).
        got: the offending value, if there is one.
        expected: what would have been right.
        do: the next step for the reader.
    """

    def __init__(self, what: str, *, got: object = None, expected: object = None, do: str | None = None) -> None:
        self.what, self.got, self.expected, self.do = what, got, expected, do
        facts = [f"{word} {value}" for word, value in (("got", got), ("expected", expected)) if value is not None]
        line = f"{what}: {'; '.join(facts)}." if facts else f"{what}."
        super().__init__(" ".join(f"{line} {do or ''}".split()))

    def __reduce__(self) -> tuple[object, ...]:
        # Errors travel between Ray processes; the default would re-create them from the joined line.
        return _rebuild, (type(self), self.what, self.got, self.expected, self.do)


def _rebuild(kind: type[SpacexError], what: str, got: object, expected: object, do: str | None) -> SpacexError:
    return kind(what, got=got, expected=expected, do=do)


class RequestError(SpacexError):
    """The request is wrong: nothing was written, and jobs exit with code 2."""


class CatalogueError(RequestError):
    """The STAC endpoint does not answer, or its items lack what is asked of them."""


class CheckpointError(RequestError):
    """A checkpoint is missing, damaged, or made for other bands or another chip size."""


class CubeError(RequestError):
    """The output store holds something this request must not overwrite or extend."""


class DataError(RequestError):
    """A data set on disk is not laid out as its authors publish it."""


class TileError(SpacexError):
    """One tile failed; the runner retries it and then quarantines it."""
