# Loads and checks the configuration and the sample table, and finds out what this machine has. What
# the rules ask of these is in workflow/lib, as Python with tests of its own.
import os
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.shell import shell

ROOT = Path(workflow.basedir)
sys.path.insert(0, str(ROOT))

from tenet.errors import TenetError
from workflow.lib import figures, models, phantoms, planned, real, samples, served, stacks
from workflow.lib.catalogue import Catalogue, resolved
from workflow.lib.gpus import GRANTED, visible_gpus
from workflow.lib.resources import CLUSTER_CORES, Machine, gpu_limit
from workflow.lib.tracking import code, finetune_settings, phantom_settings, settings
from workflow.lib.words import assignments, names, repeated, without_suffix

catalogue = Catalogue.load(config, ROOT, files=workflow.configfiles)
models.check_models(catalogue)

samples.check_asked(catalogue, sys.argv)
real.check_asked(catalogue, sys.argv)

# Commands run on the interpreter that runs Snakemake, unless a rule brings an environment.
if not workflow.deployment_settings.deployment_method:
    PROGRAMS = Path(sys.executable).parent
    shell.prefix('set -euo pipefail; export PATH={PROGRAMS:q}:"$PATH"; ')

# On this machine `--resources gpu=1` means one GPU and the jobs that share it; without it all GPUs
# are used, and none means the CPU. On a cluster (which is given a number of nodes) each job asks
# for its own GPU, and within a job of a cluster Snakemake plans what was planned outside.
cpu_only = False
on_cluster = workflow.resource_settings.nodes is not None or workflow.remote_exec
if workflow.resource_settings.nodes is None:
    per_gpu = GRANTED if workflow.remote_exec else config["jobs_per_gpu"]
    os.environ.update(TENET_JOBS_PER_GPU=str(per_gpu))  # for on_device.py
    asked = workflow.global_resources.get("gpu").value
    places = gpu_limit(asked, len(visible_gpus()), max(per_gpu, 1))
    workflow.register_resource("gpu", places)
    cpu_only = places == 0 and not on_cluster
elif not workflow.remote_exec:
    # `cores: all` of profiles/default would count those of the machine that submits.
    given = workflow.resource_settings.cores or 0
    workflow.register_resource("_cores", max(given, CLUSTER_CORES))
cores = CLUSTER_CORES if on_cluster else workflow.resource_settings.cores or CLUSTER_CORES
machine = Machine(cores=cores, cpu_only=cpu_only)
planned.announce(workflow, catalogue, cpu_only=cpu_only)


def following(step):
    """A hash of a step's code for `params`, found where a job of the rule is planned."""
    return lambda wildcards: code(ROOT, step)
