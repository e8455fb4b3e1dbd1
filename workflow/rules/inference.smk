# Shape and brightness of every acquisition, by the fine-tuned model and by the pre-trained one.


rule predict:
    input:
        model=lambda wildcards: models.enhancing_model(
            catalogue, wildcards.experiment, wildcards.method, wildcards.fold
        ),
        data=lambda wildcards: stacks.acquisitions(catalogue, wildcards.experiment),
        rois=lambda wildcards: stacks.rois(catalogue, wildcards.experiment),
    output:
        folder=directory("<results>/predictions/{experiment}/{method}{fold}"),
        checksums="<results>/predictions/{experiment}/{method}{fold}.sha256",
    log:
        "<logs>/predict/{experiment}/{method}{fold}.log",
    benchmark:
        "<benchmarks>/predict/{experiment}/{method}{fold}.tsv"
    wildcard_constraints:
        method=names([*models.FINE_TUNED, models.BOX, "pretrained"]),
        fold="(/all|/fold[0-9]+)?",
    conda:
        "../../envs/tenet.yaml"
    threads: machine.inference_threads
    resources:
        mem_mb=16000,
        runtime=480,
        gpu=1,
    params:
        code=following("predict"),
        normalisation=lambda wildcards: models.normalisation(
            catalogue, wildcards.experiment, wildcards.method
        ),
        model=lambda wildcards, input: str(Path(input.model[0]).parent),
        data=lambda wildcards, input: stacks.stack_folder(
            catalogue, wildcards.experiment, input.data
        ),
        rois=lambda wildcards, input: stacks.image_options(
            catalogue, wildcards.experiment, input.data, wildcards.fold.strip("/")
        ),
        levels=lambda wildcards: models.level_options(
            catalogue, wildcards.experiment, wildcards.method
        ),
    shell:
        "(python workflow/scripts/on_device.py {resources.gpu}"
        " python -m tenet predict --model {params.model:q} --data {params.data:q} {params.rois:q}"
        " {params.normalisation:q} {params.levels:q} --out {output.folder:q} --threads {threads}"
        " && python workflow/scripts/checksums.py {output.folder:q} {output.checksums:q})"
        " > {log:q} 2>&1"
