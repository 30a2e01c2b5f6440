"""Errors that a person can mend: each message is one line with the thing, the place and the remedy.

The command line prints the message alone and exits with code 2; everything else that is raised is a
defect of this library and keeps its traceback.
"""


class UserError(Exception):
    """Base of all errors whose remedy lies with the person who runs the program."""


class ConfigError(UserError):
    """A config field is unknown, has a value outside its range, or contradicts another."""


class DataError(UserError):
    """Pictures or folders are missing, broken, or of a shape that the run cannot use."""


class CheckpointError(UserError):
    """A checkpoint is absent, damaged, or belongs to another architecture."""


class ForeignFileError(UserError):
    """A file from another code base has missing or unknown keys, or is not what it claims to be."""


class DivergenceError(UserError):
    """Training produced a number that is not finite."""
