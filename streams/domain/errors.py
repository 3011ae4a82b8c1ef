"""What the domain raises: only for a defect, never for anything that a merchant or a gateway does."""


class InvariantViolatedError(Exception):
    """The row and the code contradict each other: the worker must stop before it makes things worse."""
