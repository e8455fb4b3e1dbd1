# The user's own stacks. A model of every microscope enhances them; or settings from the optics, then
# the rules of training.smk, then the results.


# Before any training: intensities that are not finite, or all equal, show in no header.
rule sample_check:
    input:
        stacks=lambda wildcards: samples.stacks_of(catalogue, wildcards.sample),
    output:
        record="<results>/models/samples/{sample}/stacks.json",
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
        file=lambda wildcards: samples.sample(catalogue, wildcards.sample)["file"],
        reading=lambda wildcards: samples.reading_options(
            samples.sample(catalogue, wildcards.sample)
        ),
        normalisation=lambda wildcards: samples.normalisation(catalogue, wildcards.sample),
        code=following("sample_check"),
    shell:
        "python workflow/scripts/sample_check.py {params.file:q} {params.reading:q}"
        " {params.normalisation:q} --out {output.record:q} > {log:q} 2>&1"


# The settings of a model that all samples of equal optics and voxels share.
rule shared_settings:
    output:
        experiment="<results>/models/shared/{shared}.json",
    log:
        "<logs>/shared_settings/{shared}.log",
    benchmark:
        "<benchmarks>/shared_settings/{shared}.tsv"
    conda:
        "../../envs/tenet.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        base=["--base", config["sample"]["experiment"], *catalogue.overlays],
        optics=lambda wildcards: samples.shared_options(catalogue, wildcards.shared),
        settings=lambda wildcards: resolved(catalogue, config["sample"]["experiment"]).effective(),
        code=following("sample"),
    shell:
        "python -m tenet samples experiment {params.optics:q} {params.base:q}"
        " --out {output.experiment:q} > {log:q} 2>&1"


rule enhance:
    input:
        stacks=lambda wildcards: samples.stacks_of(catalogue, wildcards.sample),
        checked=lambda wildcards: [
            ancient(path)
            for path in samples.sample_record(catalogue, f"samples/{wildcards.sample}")
        ],
        model=lambda wildcards: models.sample_model(catalogue, wildcards.sample),
    output:
        stack="<results>/enhanced/{sample}.ome.tif",
        sheet=report(
            "<results>/enhanced/{sample}.png",
            caption="../report/sheet.rst",
            category="Samples",
            labels={"sample": "{sample}", "view": "sheet"},
        ),
        page=report(
            "<results>/enhanced/{sample}.html",
            caption="../report/sheet.rst",
            category="Samples",
            labels={"sample": "{sample}", "view": "page"},
        ),
        record="<results>/enhanced/{sample}.json",
    log:
        "<logs>/enhance/{sample}.log",
    benchmark:
        "<benchmarks>/enhance/{sample}.tsv"
    conda:
        "../../envs/tenet.yaml"
    threads: lambda wildcards: machine.threads_of(f"samples/{wildcards.sample}")
    resources:
        mem_mb=16000,
        runtime=240,
        gpu=1,
    params:
        file=lambda wildcards: samples.sample(catalogue, wildcards.sample)["file"],
        reading=lambda wildcards: samples.reading_options(
            samples.sample(catalogue, wildcards.sample)
        ),
        optics=lambda wildcards: served.optics_options(
            catalogue, samples.sample(catalogue, wildcards.sample)
        ),
        code=following("enhance"),
        model=lambda wildcards, input: str(Path(input.model[0]).parent),
        results=lambda wildcards, output: samples.result_options(
            catalogue, wildcards.sample, output[0]
        ),
        finished=lambda wildcards, output: samples.finished(catalogue, wildcards.sample, output[0]),
    shell:
        "python workflow/scripts/on_device.py {resources.gpu}"
        " python -m tenet enhance {params.file:q} {params.reading:q} --model {params.model:q}"
        " {params.results:q} --sheet {params.optics:q} --threads {threads} > {log:q} 2>&1"
        " && python workflow/scripts/finish_folder.py {params.finished:q} >> {log:q} 2>&1"


# A folder of stacks, several channels or several time points: a result for each, in a folder, which
# is called NAME.unfinished as long as a stack is missing.
use rule enhance as enhance_several with:
    output:
        folder=report(
            directory("<results>/enhanced/{sample}"),
            patterns=["{stack}.png", "{stack}.html"],
            caption="../report/sheet.rst",
            category="Samples",
            labels={"sample": "{sample}", "stack": "{stack}"},
        ),
    log:
        "<logs>/enhance_several/{sample}.log",
    benchmark:
        "<benchmarks>/enhance_several/{sample}.tsv"
