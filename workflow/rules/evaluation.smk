# The same measures for every method, and the tables beside the figures.


rule evaluate_segmentation:
    input:
        predictions=lambda wildcards: models.predictions(catalogue, wildcards.experiment),
        phantoms=lambda wildcards: stacks.phantoms_of(catalogue, wildcards.experiment),
    output:
        metrics="<results>/metrics/{experiment}.csv",
        sweep="<results>/metrics/{experiment}_sweep.csv",
    log:
        "<logs>/evaluate/{experiment}.log",
    benchmark:
        "<benchmarks>/evaluate/{experiment}.tsv"
    wildcard_constraints:
        experiment=names(catalogue.evaluated_by("segmentation")),
    conda:
        "../../envs/tenet.yaml"
    threads: 1
    resources:
        mem_mb=12000,
        runtime=240,
    params:
        methods=lambda wildcards: repeated("--method", catalogue.methods_of(wildcards.experiment)),
        overlays=catalogue.overlays,
        settings=lambda wildcards: settings(catalogue, wildcards.experiment, "evaluate"),
        code=following("evaluate"),
        predictions=lambda wildcards, input: str(Path(input.predictions[0]).parent),
        phantoms=lambda wildcards, input: without_suffix(input.phantoms),
    shell:
        "python -m tenet evaluate segmentation {wildcards.experiment:q} {params.overlays:q}"
        " {params.methods:q} --predictions {params.predictions:q} --phantoms {params.phantoms:q}"
        " --out {output.metrics:q} --sweep {output.sweep:q} > {log:q} 2>&1"


rule evaluate_beads:
    input:
        predictions=lambda wildcards: models.predictions(catalogue, wildcards.experiment),
        data=lambda wildcards: stacks.acquisitions(catalogue, wildcards.experiment),
        rois=lambda wildcards: stacks.rois(catalogue, wildcards.experiment),
        phantoms=lambda wildcards: (
            stacks.phantoms_of(catalogue, wildcards.experiment)
            if catalogue.is_simulated(wildcards.experiment)
            else []
        ),
    output:
        metrics="<results>/metrics/{experiment}.csv",
        sweep="<results>/metrics/{experiment}_sweep.csv",
    log:
        "<logs>/evaluate/{experiment}.log",
    benchmark:
        "<benchmarks>/evaluate/{experiment}.tsv"
    wildcard_constraints:
        experiment=names(catalogue.evaluated_by("beads")),
    conda:
        "../../envs/tenet.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=240,
    params:
        methods=lambda wildcards: repeated("--method", catalogue.methods_of(wildcards.experiment)),
        overlays=catalogue.overlays,
        folds=lambda wildcards: repeated(
            "--fold",
            [
                fold.removeprefix("fold")
                for fold in catalogue.folds(wildcards.experiment)
                if fold != "all"
            ],
        ),
        settings=lambda wildcards: settings(catalogue, wildcards.experiment, "evaluate"),
        code=following("evaluate"),
        predictions=lambda wildcards: f"{config['results']}/predictions/{wildcards.experiment}",
        rois=lambda wildcards, input: stacks.image_options(
            catalogue, wildcards.experiment, input.data
        ),
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
        predictions=lambda wildcards: models.predictions(catalogue, wildcards.experiment),
        data=lambda wildcards: stacks.acquisitions(catalogue, wildcards.experiment),
        phantoms=lambda wildcards: (
            stacks.phantoms_of(catalogue, wildcards.experiment)
            if catalogue.is_simulated(wildcards.experiment)
            else []
        ),
    output:
        metrics="<results>/metrics/{experiment}.csv",
    log:
        "<logs>/evaluate/{experiment}.log",
    benchmark:
        "<benchmarks>/evaluate/{experiment}.tsv"
    wildcard_constraints:
        experiment=names(catalogue.evaluated_by("profiles")),
    conda:
        "../../envs/tenet.yaml"
    threads: 1
    resources:
        mem_mb=12000,
        runtime=240,
    params:
        methods=lambda wildcards: repeated("--method", catalogue.methods_of(wildcards.experiment)),
        code=following("structures"),
        predictions=lambda wildcards: f"{config['results']}/predictions/{wildcards.experiment}",
        data=lambda wildcards, input: without_suffix(input.data),
        truth=lambda wildcards: stacks.truth_option(catalogue, wildcards.experiment),
    shell:
        "python -m tenet evaluate profiles {wildcards.experiment:q} {params.methods:q} {params.truth:q}"
        " --predictions {params.predictions:q} --data {params.data:q}"
        " --out {output.metrics:q} > {log:q} 2>&1"


rule evaluate_cells:
    input:
        predictions=lambda wildcards: models.predictions(catalogue, wildcards.experiment),
        tumour=lambda wildcards: models.predictions(
            catalogue, figures.tumour_of(catalogue, wildcards.experiment)
        )[:1],
        phantoms=lambda wildcards: [
            stacks.phantoms_of(catalogue, name)
            for name in (wildcards.experiment, figures.tumour_of(catalogue, wildcards.experiment))
            if catalogue.is_simulated(name)
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
        experiment=names(catalogue.evaluated_by("cells")),
    conda:
        "../../envs/tenet.yaml"
    threads: 8
    resources:
        mem_mb=24000,
        runtime=1440,
    params:
        methods=lambda wildcards: repeated("--method", catalogue.methods_of(wildcards.experiment)),
        code=following("structures"),
        predictions=lambda wildcards: f"{config['results']}/predictions/{wildcards.experiment}",
        tumour=lambda wildcards, input: repeated("--tumour", map(without_suffix, input.tumour)),
        truth=lambda wildcards: stacks.truth_option(catalogue, wildcards.experiment),
        tumour_truth=lambda wildcards: stacks.truth_option(
            catalogue, figures.tumour_of(catalogue, wildcards.experiment), "--tumour-phantoms"
        ),
    shell:
        "python -m tenet evaluate cells {wildcards.experiment:q} {params.methods:q} {params.truth:q}"
        " --predictions {params.predictions:q} {params.tumour:q} {params.tumour_truth:q}"
        " --out {output.metrics:q} --cells {output.cells:q} --projections {output.projections:q}"
        " --threads {threads} > {log:q} 2>&1"


rule table:
    input:
        metrics=lambda wildcards: figures.measured(catalogue, [figures.figure_of(wildcards.table)]),
        published="resources/published_values.csv",
        psfs=lambda wildcards: figures.psf_tables(catalogue, figures.figure_of(wildcards.table)),
        acquisitions=lambda wildcards: [
            stacks.acquisitions(catalogue, name)
            for name in figures.shown_in(catalogue, figures.figure_of(wildcards.table))
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
        table=names(figures.TABLES.values()),
    conda:
        "../../envs/tenet.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        figure=lambda wildcards: figures.figure_of(wildcards.table),
        code=following("table"),
        metrics=lambda wildcards, input: repeated("--metrics", input.metrics),
        psfs=lambda wildcards, input: repeated("--psf", input.psfs),
        acquisition=lambda wildcards: figures.acquisition_option(
            catalogue, figures.figure_of(wildcards.table)
        ),
        budgets=lambda wildcards: figures.budget_options(
            catalogue, figures.figure_of(wildcards.table)
        ),
    shell:
        "python -m tenet table {params.figure:q} {params.metrics:q} {params.psfs:q} {params.acquisition:q}"
        " {params.budgets:q}"
        " --published {input.published:q}"
        " --out {output.table:q} > {log:q} 2>&1"


rule published:
    input:
        metrics=lambda wildcards: sorted(set(figures.measured(catalogue, config["figures"]))),
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
        code=following("published"),
        metrics=lambda wildcards, input: repeated("--metrics", input.metrics),
        seed=config["seed"],
    shell:
        "python -m tenet published {params.metrics:q} --published {input.published:q}"
        " --seed {params.seed:q} --out {output.table:q} > {log:q} 2>&1"
