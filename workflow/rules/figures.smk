# Figures: a notebook each, which reads the results and calls tenet.paper.figures.


rule figure:
    input:
        unpack(lambda wildcards: figures.figure_inputs(catalogue, wildcards.figure)),
        notebook="notebooks/{figure}.ipynb",
    output:
        pdf=report(
            "<results>/{figure}.pdf",
            caption="../report/figure.rst",
            category="Figures",
            labels={"figure": "{figure}", "kind": "PDF"},
        ),
        png=report(
            "<results>/{figure}.png",
            caption="../report/figure.rst",
            category="Figures",
            labels={"figure": "{figure}", "kind": "PNG"},
        ),
    log:
        notebook="<logs>/notebooks/{figure}.ipynb",
        text="<logs>/notebooks/{figure}.log",
    benchmark:
        "<benchmarks>/figure/{figure}.tsv"
    retries: 1  # notebooks that start together can pick the same port
    conda:
        "../../envs/figures.yaml"
    threads: 1
    resources:
        mem_mb=16000,
        runtime=60,
    params:
        parameters=lambda wildcards, input: figures.figure_parameters(
            catalogue,
            wildcards.figure,
            acquisitions=input.get("acquisitions", []),
            histories=input.get("histories", []),
            published=input.get("published", ""),
        ),
        code=lambda wildcards: code(ROOT, wildcards.figure),
    shell:
        "python -m papermill -k python3 -l python --no-progress-bar"
        " {input.notebook:q} {log.notebook:q} -y {params.parameters:q} > {log.text:q} 2>&1"
