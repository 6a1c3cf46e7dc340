"""What a person can be told when the mesh cannot work."""


class MeshError(Exception):
    """Something outside is in the way; `hint` says what to type or do next."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
