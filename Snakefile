# TENET: from raw data, or phantoms, to the figures of the paper and to the user's own stacks.
#
#   snakemake all --cores 8 --resources gpu=1          the paper at full scale
#   snakemake --configfile config/demo.yaml            the same at laptop scale, from simulated data
#   snakemake results/fig3.pdf                         one figure and what it needs
#   snakemake results/enhanced/NAME.ome.tif            a stack of config/samples.tsv
#   snakemake results/enhanced/NAME                    a folder of stacks, several channels or times
#   snakemake samples                                  all of config/samples.tsv
#   snakemake model --cores 8 --resources gpu=1        the model of every microscope, anew
#
# A profile for each place is in profiles/, docs/pipeline.md explains what can be set.
from snakemake.utils import min_version

min_version("9.27")


configfile: "config/config.yaml"


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"


pathvars:
    results=config["results"],
    logs=f"{config['results']}/logs",
    benchmarks=f"{config['results']}/benchmarks",
    zenodo=config["zenodo"]["folder"],


wildcard_constraints:
    set="[A-Za-z0-9_-]+",
    model="(published/)?[A-Za-z0-9_-]+|shared/[A-Za-z0-9_.-]+",
    shared="na[A-Za-z0-9_.-]+",
    experiment="(samples/|published/)?[A-Za-z0-9_-]+",
    fold="all|fold[0-9]+",
    figure="fig[0-9]+|supp|supp_motion|supp_training|quality",
    sample="[A-Za-z0-9_-]+",


rule all:
    default_target: True
    input:
        figures.final_files(catalogue),


rule samples:
    input:
        samples.results(catalogue),


rule model:
    input:
        "<results>/model/box",


include: "workflow/rules/data.smk"
include: "workflow/rules/phantoms.smk"
include: "workflow/rules/training.smk"
include: "workflow/rules/baselines.smk"
include: "workflow/rules/model.smk"
include: "workflow/rules/inference.smk"
include: "workflow/rules/evaluation.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/samples.smk"
include: "workflow/rules/real.smk"
