"""The one exception that is a user's mistake, and errors of other packages in one line."""


class TenetError(Exception):
    """Bad input: what is wrong, where, and what to do, in one line.

    The command line prints the message alone and exits with status 2. Every other exception is a
    defect of TENET and keeps its traceback.
    """


def one_line(error: BaseException) -> str:
    """Return an error's message as one short line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else f"{text[:199]}…"


def printable(text: str) -> str:
    """Return a text whose control characters and ends of lines are escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
