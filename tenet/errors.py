"""The one exception that is a user's mistake rather than ours."""


class TenetError(Exception):
    """Bad input: what is wrong, where, and what to do, in one line.

    The command line prints the message alone and exits with status 2; everything else that is
    raised is a defect of TENET and keeps its traceback.
    """
