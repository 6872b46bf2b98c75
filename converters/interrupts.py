"""Let Ctrl-C through the libraries that convert."""


def reraise_interrupt(error: BaseException) -> None:
    """Raise ``KeyboardInterrupt`` if ``error`` only wraps one, as torch's exporter does."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        current = waiting.pop()
        if current is None or id(current) in seen:
            continue
        if isinstance(current, KeyboardInterrupt):
            raise KeyboardInterrupt from error
        seen.add(id(current))
        waiting += [current.__cause__, current.__context__]
