# What only a cluster needs: the start of a run is checked, signals reach the rules' scripts.
# Needs: Slurm's commands, where the executor is slurm; nothing elsewhere.
# Makes: .snakemake/slurm_runs/RUN.json: which process submits jobs under the name RUN.

import os
import signal
import sys

from snakemake.shell import shell

from slideunet import slurm_executor, slurm_start, store

# A cluster tells all processes of a job that its end is near (SIGTERM, SIGUSR1). The script saves
# its work then, for which the shell and the Snakemake around it have to live on.
if workflow.remote_exec:
    os.environ.update(UNET_SLIDES_SLURM_JOB=os.environ.get("SLURM_JOB_ID", ""))
    if slurm_executor.is_packed(sys.argv):
        os.environ[store.PACKED] = "1"
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    shell.prefix("set -euo pipefail; trap '' TERM USR1; ")


# These run where Snakemake runs: they take a second, or (demo) need the network that a cluster's
# nodes often lack. (A module's rules have other names in the workflow that takes them.)
if workflow.modifier.is_main_snakefile():

    localrules:
        demo,
        summary,
        archive,
        verdict,


onstart:
    longest_first.install(workflow.scheduler)
    try:
        slurm_start.prepare(workflow)
    except UserError as error:
        raise WorkflowError(str(error))
