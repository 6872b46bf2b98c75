"""Why a file cannot be read, on the way up to where its name is known."""


class UnreadableError(Exception):
    """What is wrong, in which line, and what to do."""

    def __init__(self, reason: str, *, line: int | None = None, hint: str | None = None) -> None:
        super().__init__(reason)
        self.reason = " ".join(reason.split())
        self.place = f", line {line}" if line is not None else ""
        self.hint = hint
