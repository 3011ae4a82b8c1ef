"""What this package raises: nothing that a merchant or a gateway does, only what must not be."""


class InvariantViolatedError(Exception):
    """The row and the code contradict each other: the worker must stop before it makes things worse.

    Only for a defect, never for anything that a merchant or a gateway does.
    """
