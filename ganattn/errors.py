"""User errors: each message is one line with the thing, the place and the remedy.

The command line prints the message alone and exits with code 2; any other exception is a defect of
this library and keeps its traceback.
"""


class UserError(Exception):
    """Base of all errors that the person who runs the program can fix."""


class ConfigError(UserError):
    """A config field is unknown, has a value outside its range, or contradicts another."""


class DataError(UserError):
    """Images or folders are missing, corrupt, or of a shape that the run cannot use."""


class CheckpointError(UserError):
    """A checkpoint is missing, corrupt, or belongs to another architecture."""


class ForeignFileError(UserError):
    """A file from another code base has missing or unknown keys, or is of another format."""


class DivergenceError(UserError):
    """Training produced a value that is not finite."""
