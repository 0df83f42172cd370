"""The two errors that are a user's business: they are shown as one line, never as a traceback."""


class UserError(Exception):
    """Something the user can mend. The message is one line: what, where, what to do instead."""

    def __str__(self) -> str:
        # A message may quote a file name or a library's words: both can hold newlines.
        return " ".join(super().__str__().split())


class SlideError(UserError):
    """The content of one slide is bad: that slide is marked failed, the others go on.

    The message is part of the results, so it is the same from run to run. What is not, such as the
    place that was come upon first, is a note (`add_note`), which goes to the log.
    """
