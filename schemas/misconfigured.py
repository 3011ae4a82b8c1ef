"""The one error for what an operator must change before anything works: a setting, a right, a topic, a policy.

Stands in the lowest room, since every room can find such a thing: settings that contradict each other, a broker that
refuses the credentials, a gateway's address that is none, topics that were not made. `streams.cli.exits` turns it into
exit code 3 and one line.
"""


class MisconfiguredError(Exception):
    """Nothing will work until somebody changes something. The message names what, and never shows a secret value.

    Where it is a setting, the message begins with the variable's name; where a command mends it, it names the command.
    A program that has not served yet refuses to start; one that serves ends.
    """
