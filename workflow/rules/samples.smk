# The user's own stacks: settings from the optics, then the rules of training.smk, then the result.


# Before any training: intensities that are not finite, or all equal, show in no header.
rule sample_check:
    input:
        stack=lambda wildcards: samples.stack_of(catalogue, wildcards.sample),
    output:
        record="<results>/models/samples/{sample}/stack.json",
    log:
        "<logs>/sample_check/{sample}.log",
    benchmark:
        "<benchmarks>/sample_check/{sample}.tsv"
    priority: 5
    conda:
        "../../envs/tenet.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        reading=lambda wildcards: samples.reading_options(
            samples.sample(catalogue, wildcards.sample)
        ),
        normalisation=lambda wildcards: models.normalisation(
            catalogue, samples.experiment_name(catalogue, f"samples/{wildcards.sample}")
        ),
        code=code(ROOT, "sample_check"),
    shell:
        "python workflow/scripts/sample_check.py {input.stack:q} {params.reading:q}"
        " {params.normalisation:q} --out {output.record:q} > {log:q} 2>&1"


rule sample_experiment:
    input:
        stack=lambda wildcards: samples.stack_of(catalogue, wildcards.sample),
        checked=ancient("<results>/models/samples/{sample}/stack.json"),
    output:
        experiment="<results>/models/samples/{sample}/experiment.json",
    log:
        "<logs>/sample_experiment/{sample}.log",
    benchmark:
        "<benchmarks>/sample_experiment/{sample}.tsv"
    conda:
        "../../envs/tenet.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        base=["--base", config["sample"]["experiment"], *catalogue.overlays],
        optics=lambda wildcards: samples.optics_options(samples.sample(catalogue, wildcards.sample)),
        reading=lambda wildcards: samples.reading_options(
            samples.sample(catalogue, wildcards.sample)
        ),
        settings=lambda wildcards: resolved(catalogue, config["sample"]["experiment"]).effective(),
        code=code(ROOT, "sample"),
    shell:
        "python -m tenet samples experiment --file {input.stack:q} {params.reading:q}"
        " {params.optics:q} {params.base:q} --out {output.experiment:q} > {log:q} 2>&1"


rule enhance:
    input:
        stack=lambda wildcards: samples.stack_of(catalogue, wildcards.sample),
        model="<results>/models/samples/{sample}/all/model.pt",
        experiment="<results>/models/samples/{sample}/all/experiment.json",
        threshold="<results>/models/samples/{sample}/all/threshold.json",
    output:
        stack="<results>/enhanced/{sample}.ome.tif",
        sheet=report(
            "<results>/enhanced/{sample}.png",
            caption="../report/sheet.rst",
            category="Samples",
            labels={"sample": "{sample}"},
        ),
    log:
        "<logs>/enhance/{sample}.log",
    benchmark:
        "<benchmarks>/enhance/{sample}.tsv"
    conda:
        "../../envs/tenet.yaml"
    threads: machine.training_threads
    resources:
        mem_mb=16000,
        runtime=240,
        gpu=1,
    params:
        reading=lambda wildcards: samples.reading_options(
            samples.sample(catalogue, wildcards.sample)
        ),
        code=code(ROOT, "enhance"),
        model=subpath(input.model, parent=True),
        out=subpath(output.stack, parent=True),
    shell:
        "python workflow/scripts/on_device.py {resources.gpu}"
        " python -m tenet enhance {input.stack:q} {params.reading:q} --model {params.model:q}"
        " --name {wildcards.sample:q} --sheet --out {params.out:q} --threads {threads}"
        " > {log:q} 2>&1"
