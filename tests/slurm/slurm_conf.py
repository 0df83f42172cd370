"""The configuration files of the tests' Slurm cluster."""

import contextlib
import os
import pwd
import socket
from pathlib import Path

# Memory limits are enforced by sampling once a second (no cgroups needed).
CONF = """\
ClusterName=throwaway
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={root}/munge/socket
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool/%n
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd.%n.pid
SlurmctldLogFile={root}/log/slurmctld.log
SlurmdLogFile={root}/log/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherParams=OverMemoryKill,UsePss
JobAcctGatherFrequency=task=1
AccountingStorageType=accounting_storage/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
GresTypes=gpu
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=1,sched_min_interval=0
KillWait=4
CompleteWait=0
MinJobAge=600
SlurmdTimeout=6
SlurmctldTimeout=10
MessageTimeout=5
TCPTimeout=2
ReturnToService=2
JobRequeue=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmdParameters=config_overrides
PropagateResourceLimits=NONE
PropagatePrioProcess=0
MailProg=/bin/true
"""


def configuration(
    root: Path, nodes: list[str], *, cpus: int, mem_mb: int, gpus: int
) -> dict[str, str]:
    """Name -> text of the files in `root`. The last node has the GPUs."""
    ports = _free_ports(len(nodes) + 1)
    host = socket.gethostname().split(".")[0]
    user = pwd.getpwuid(os.getuid()).pw_name
    lines = [CONF.format(root=root, host=host, port=ports[0], user=user)]
    for name, port in zip(nodes, ports[1:], strict=True):
        gres = f" Gres=gpu:fake:{gpus}" if gpus and name == nodes[-1] else ""
        lines.append(
            f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} "
            f"CPUs={cpus} RealMemory={mem_mb}{gres} State=UNKNOWN"
        )
    limits = "MaxTime=1-0 DefaultTime=5 DefMemPerCPU=500 State=UP"
    for partition, members, tier in (
        ("main", "ALL", "10 Default=YES"),
        ("gpu", nodes[-1], "10"),
        ("urgent", "ALL", "20"),  # its jobs push those of the others off
        ("paid", "ALL", "10 AllowAccounts=proj"),
    ):
        lines.append(f"PartitionName={partition} Nodes={members} PriorityTier={tier} {limits}")
    # File must name a character device: these are always there
    devices = ("null", "zero", "full", "random")[:gpus]
    gres = "".join(f"NodeName={nodes[-1]} Name=gpu Type=fake File=/dev/{d}\n" for d in devices)
    return {
        "slurm.conf": "\n".join(lines) + "\n",
        "gres.conf": gres,
        "cgroup.conf": "CgroupPlugin=cgroup/v1\n",
    }


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
