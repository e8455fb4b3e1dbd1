# The same measures for every method, and the tables beside the figures.


rule evaluate_segmentation:
    input:
        predictions=lambda wildcards: predictions(wildcards.experiment),
        phantoms=lambda wildcards: phantoms_of(wildcards.experiment),
    output:
        metrics="<results>/metrics/{experiment}.csv",
        sweep="<results>/metrics/{experiment}_sweep.csv",
    log:
        "<logs>/evaluate/{experiment}.log",
    benchmark:
        "<benchmarks>/evaluate/{experiment}.tsv"
    wildcard_constraints:
        experiment=names(e for e in EXPERIMENTS if EXPERIMENTS[e]["evaluation"] == "segmentation"),
    conda:
        "../../envs/tenet.yaml"
    threads: 1
    resources:
        mem_mb=32000,
        runtime=240,
    params:
        methods=method_options,
        overlays=OVERLAYS,
        settings=lambda wildcards: settings(wildcards.experiment, "evaluate"),
        code=code("evaluate"),
        predictions=lambda wildcards, input: str(Path(input.predictions[0]).parent),
        phantoms=lambda wildcards, input: without_suffix(input.phantoms),
    shell:
        "python -m tenet evaluate segmentation {wildcards.experiment:q} {params.overlays:q}"
        " {params.methods:q} --predictions {params.predictions:q} --phantoms {params.phantoms:q}"
        " --out {output.metrics:q} --sweep {output.sweep:q} > {log:q} 2>&1"


rule evaluate_beads:
    input:
        predictions=lambda wildcards: predictions(wildcards.experiment),
        data=lambda wildcards: acquisitions(wildcards.experiment),
        rois=lambda wildcards: rois(wildcards.experiment),
        phantoms=lambda wildcards: (
            phantoms_of(wildcards.experiment) if is_simulated(wildcards.experiment) else []
        ),
    output:
        metrics="<results>/metrics/{experiment}.csv",
        sweep="<results>/metrics/{experiment}_sweep.csv",
    log:
        "<logs>/evaluate/{experiment}.log",
    benchmark:
        "<benchmarks>/evaluate/{experiment}.tsv"
    wildcard_constraints:
        experiment=names(e for e in EXPERIMENTS if is_beads(e)),
    conda:
        "../../envs/tenet.yaml"
    threads: 1
    resources:
        mem_mb=16000,
        runtime=240,
    params:
        methods=method_options,
        overlays=OVERLAYS,
        folds=lambda wildcards: repeated(
            "--fold",
            [fold.removeprefix("fold") for fold in folds(wildcards.experiment) if fold != "all"],
        ),
        settings=lambda wildcards: settings(wildcards.experiment, "evaluate"),
        code=code("evaluate"),
        predictions=lambda wildcards: f"{config['results']}/predictions/{wildcards.experiment}",
        rois=lambda wildcards, input: image_options(wildcards.experiment, input.data),
        phantoms=lambda wildcards, input: (
            ["--phantoms", without_suffix(input.phantoms)] if input.phantoms else []
        ),
    shell:
        "python -m tenet evaluate beads {wildcards.experiment:q} {params.overlays:q}"
        " {params.methods:q} {params.folds:q} --predictions {params.predictions:q} {params.rois:q}"
        " {params.phantoms:q}"
        " --out {output.metrics:q} --sweep {output.sweep:q} > {log:q} 2>&1"


rule evaluate_profiles:
    input:
        predictions=lambda wildcards: predictions(wildcards.experiment),
        data=lambda wildcards: acquisitions(wildcards.experiment),
        phantoms=lambda wildcards: (
            phantoms_of(wildcards.experiment) if is_simulated(wildcards.experiment) else []
        ),
    output:
        metrics="<results>/metrics/{experiment}.csv",
    log:
        "<logs>/evaluate/{experiment}.log",
    benchmark:
        "<benchmarks>/evaluate/{experiment}.tsv"
    wildcard_constraints:
        experiment=names(e for e in EXPERIMENTS if EXPERIMENTS[e]["evaluation"] == "profiles"),
    conda:
        "../../envs/tenet.yaml"
    threads: 1
    resources:
        mem_mb=32000,
        runtime=240,
    params:
        methods=method_options,
        code=code("structures"),
        predictions=lambda wildcards: f"{config['results']}/predictions/{wildcards.experiment}",
        data=lambda wildcards, input: without_suffix(input.data),
        truth=lambda wildcards: truth_option(wildcards.experiment),
    shell:
        "python -m tenet evaluate profiles {wildcards.experiment:q} {params.methods:q} {params.truth:q}"
        " --predictions {params.predictions:q} --data {params.data:q}"
        " --out {output.metrics:q} > {log:q} 2>&1"


rule evaluate_cells:
    input:
        predictions=lambda wildcards: predictions(wildcards.experiment),
        tumour=lambda wildcards: predictions(tumour_of(wildcards.experiment)),
        phantoms=lambda wildcards: [
            phantoms_of(name)
            for name in (wildcards.experiment, tumour_of(wildcards.experiment))
            if is_simulated(name)
        ],
    output:
        metrics="<results>/metrics/{experiment}.csv",
        cells=report(
            "<results>/tables/{experiment}_cells.csv",
            caption="../report/cells.rst",
            category="Tables",
            labels={"table": "each cell of {experiment}"},
        ),
        projections="<results>/metrics/{experiment}_projections.npz",
    log:
        "<logs>/evaluate/{experiment}.log",
    benchmark:
        "<benchmarks>/evaluate/{experiment}.tsv"
    wildcard_constraints:
        experiment=names(e for e in EXPERIMENTS if EXPERIMENTS[e]["evaluation"] == "cells"),
    conda:
        "../../envs/tenet.yaml"
    threads: 1
    resources:
        mem_mb=64000,
        runtime=480,
    params:
        methods=method_options,
        code=code("structures"),
        predictions=lambda wildcards: f"{config['results']}/predictions/{wildcards.experiment}",
        tumour=lambda wildcards: (
            f"{config['results']}/predictions/{tumour_of(wildcards.experiment)}"
        ),
        truth=lambda wildcards: truth_option(wildcards.experiment),
        tumour_truth=lambda wildcards: truth_option(
            tumour_of(wildcards.experiment), "--tumour-phantoms"
        ),
    shell:
        "python -m tenet evaluate cells {wildcards.experiment:q} {params.methods:q} {params.truth:q}"
        " --predictions {params.predictions:q} --tumour {params.tumour:q} {params.tumour_truth:q}"
        " --out {output.metrics:q} --cells {output.cells:q} --projections {output.projections:q}"
        " > {log:q} 2>&1"


rule table:
    input:
        metrics=lambda wildcards: measured(figure_of(wildcards.table)),
        published="resources/published_values.csv",
        psfs=lambda wildcards: psf_tables(figure_of(wildcards.table)),
        acquisitions=lambda wildcards: [
            acquisitions(name) for name in shown_in(figure_of(wildcards.table))
        ],
    output:
        table=report(
            "<results>/tables/{table}.csv",
            caption="../report/table.rst",
            category="Tables",
            labels={"table": "{table}"},
        ),
    log:
        "<logs>/table/{table}.log",
    benchmark:
        "<benchmarks>/table/{table}.tsv"
    wildcard_constraints:
        table=names(TABLES.values()),
    conda:
        "../../envs/tenet.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        figure=lambda wildcards: figure_of(wildcards.table),
        code=code("evaluate"),
        metrics=lambda wildcards, input: repeated("--metrics", input.metrics),
        psfs=lambda wildcards, input: repeated("--psf", input.psfs),
        acquisition=lambda wildcards: acquisition_option(figure_of(wildcards.table)),
        budgets=lambda wildcards: budget_options(figure_of(wildcards.table)),
    shell:
        "python -m tenet table {params.figure:q} {params.metrics:q} {params.psfs:q} {params.acquisition:q}"
        " {params.budgets:q}"
        " --published {input.published:q}"
        " --out {output.table:q} > {log:q} 2>&1"


rule published:
    input:
        metrics=lambda wildcards: sorted(
            {path for figure in config["figures"] for path in measured(figure)}
        ),
        sweeps=lambda wildcards: [
            f"<results>/metrics/{name}_sweep.csv"
            for figure in config["figures"]
            for name in compared_in(figure)
            if with_sweep(name)
        ],
        published="resources/published_values.csv",
    output:
        table=report(
            "<results>/tables/published_vs_run.csv",
            caption="../report/published.rst",
            category="Tables",
            labels={"table": "published and this run"},
        ),
    log:
        "<logs>/published.log",
    benchmark:
        "<benchmarks>/published.tsv"
    conda:
        "../../envs/tenet.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        code=code("published"),
        metrics=lambda wildcards, input: repeated("--metrics", input.metrics),
        sweeps=lambda wildcards, input: repeated("--sweep", input.sweeps),
        seed=config["seed"],
    shell:
        "python -m tenet published {params.metrics:q} {params.sweeps:q} --published {input.published:q}"
        " --seed {params.seed:q} --out {output.table:q} > {log:q} 2>&1"
