"""`snakemake`, asking Slurm every second: tests need not wait as a night's run may.

The executor's status checks come 10 s later each time that nothing has finished, up to 180 s, and
no option limits that.
"""

import sys

from snakemake.cli import main
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor

interval = RemoteExecutor.next_seconds_between_status_checks
RemoteExecutor.next_seconds_between_status_checks = property(
    interval.fget, lambda self, seconds: interval.fset(self, min(seconds, 1))
)

if __name__ == "__main__":
    sys.exit(main())
