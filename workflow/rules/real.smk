# The bench of real structures: a job for each kind of structure and each beam, then table and figure.


rule real_condition:
    input:
        model=lambda wildcards: real.model_files(wildcards.kind),
        tuning=lambda wildcards: models.training_set(
            catalogue, real.MODELS[wildcards.kind], "tuning"
        ),
        phantoms=lambda wildcards: models.training_set(
            catalogue, real.MODELS[wildcards.kind], "phantoms"
        ),
        structures=lambda wildcards: real.structures(catalogue, wildcards.kind),
        every_microscope=lambda wildcards: real.every_microscope(catalogue),
    output:
        results="<results>/real/{kind}_{beam}/results.csv",
        psf="<results>/real/{kind}_{beam}/psf.csv",
        picture=report(
            "<results>/real/{kind}_{beam}/picture.png",
            caption="../report/real.rst",
            category="Real structures",
            labels={"structures": "{kind}", "beam": "{beam}"},
        ),
    log:
        "<logs>/real/{kind}_{beam}.log",
    benchmark:
        "<benchmarks>/real/{kind}_{beam}.tsv"
    wildcard_constraints:
        kind=names(real.STRUCTURES),
        beam="[a-z0-9_]+",
    priority: 2
    conda:
        "../../envs/tenet.yaml"
    threads: 1
    resources:
        mem_mb=12000,
        runtime=480,
    params:
        code=following("real"),
        settings=lambda wildcards: settings(catalogue, real.MODELS[wildcards.kind], "finetune"),
        options=real.options(catalogue),
        out=subpath(output.results, parent=True),
        model=lambda wildcards, input: str(Path(input.model[0]).parent),
        tuning=lambda wildcards, input: without_suffix(input.tuning),
        phantoms=lambda wildcards, input: without_suffix(input.phantoms),
    shell:
        "python -m tenet evaluate real {wildcards.kind:q} {wildcards.beam:q} {params.options:q}"
        " --model {params.model:q} --tuning {params.tuning:q} --phantoms {params.phantoms:q}"
        " --out {params.out:q} --threads {threads} > {log:q} 2>&1"


rule real:
    input:
        results=lambda wildcards: real.results(catalogue),
    output:
        table=report(
            "<results>/tables/real.csv",
            caption="../report/table.rst",
            category="Tables",
            labels={"table": "real structures"},
        ),
        psf="<results>/tables/real_psf.csv",
        pdf="<results>/real.pdf",
        png=report(
            "<results>/real.png",
            caption="../report/real.rst",
            category="Real structures",
            labels={"structures": "all", "beam": "all"},
        ),
    log:
        "<logs>/real.log",
    benchmark:
        "<benchmarks>/real.tsv"
    conda:
        "../../envs/figures.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        code=following("real_summary"),
        folders=lambda wildcards, input: [str(Path(path).parent) for path in input.results],
    shell:
        "python -m tenet evaluate real-summary {params.folders:q} --out {output.table:q}"
        " --psf {output.psf:q} --figure {output.pdf:q} --figure {output.png:q} > {log:q} 2>&1"
