# Richardson-Lucy with total variation: tuned on held-out phantoms, and as the paper had it.


rule rltv_tune:
    input:
        model="<results>/models/{model}/model.pt",
        experiment="<results>/models/{model}/experiment.json",
        tuning=lambda wildcards: training_set(wildcards.model, "tuning"),
    output:
        settings="<results>/baselines/rltv/{model}.json",
    log:
        "<logs>/rltv_tune/{model}.log",
    benchmark:
        "<benchmarks>/rltv_tune/{model}.tsv"
    conda:
        "../../envs/tenet.yaml"
    threads: INFERENCE_THREADS
    resources:
        mem_mb=16000,
        runtime=480,
        gpu=1,
    params:
        seed=config["seed"],
        code=code("rltv"),
        grid=" ".join(
            [f"--iterations {n}" for n in config["rltv"]["iterations"]]
            + [f"--tv-weight {weight}" for weight in config["rltv"]["tv_weights"]]
        ),
        model=subpath(input.model, parent=True),
        tuning=lambda wildcards, input: without_suffix(input.tuning),
    shell:
        "python workflow/scripts/on_device.py {resources.gpu}"
        " python -m tenet rltv tune --model {params.model:q} --phantoms {params.tuning:q}"
        " {params.grid} --out {output.settings:q} --seed {params.seed} --threads {threads} > {log} 2>&1"


rule rltv:
    input:
        model=lambda wildcards: f"<results>/models/{pretrained_of(wildcards.experiment)}/model.pt",
        experiment=lambda wildcards: f"<results>/models/{pretrained_of(wildcards.experiment)}/experiment.json",
        settings=lambda wildcards: f"<results>/baselines/rltv/{pretrained_of(wildcards.experiment)}.json",
        data=lambda wildcards: acquisitions(wildcards.experiment),
        rois=lambda wildcards: rois(wildcards.experiment),
    output:
        folder=directory("<results>/predictions/{experiment}/{method}{fold}"),
        checksums="<results>/predictions/{experiment}/{method}{fold}.sha256",
    log:
        "<logs>/rltv/{experiment}/{method}{fold}.log",
    benchmark:
        "<benchmarks>/rltv/{experiment}/{method}{fold}.tsv"
    wildcard_constraints:
        method="rltv|rltv_paper",
        fold="(/all)?",
    conda:
        "../../envs/tenet.yaml"
    threads: INFERENCE_THREADS
    resources:
        mem_mb=32000,
        runtime=720,
        gpu=1,
    params:
        normalisation=lambda wildcards: normalisation(wildcards.experiment),
        variant=lambda wildcards: "--paper" if wildcards.method == "rltv_paper" else "",
        code=code("rltv"),
        model=subpath(input.model, parent=True),
        data=lambda wildcards, input: stacks(wildcards.experiment, input.data),
        rois=lambda wildcards, input: roi_options(wildcards.experiment, input.data),
    shell:
        "(python workflow/scripts/on_device.py {resources.gpu}"
        " python -m tenet rltv run {params.variant} --model {params.model:q}"
        " --settings {input.settings:q} --data {params.data:q} {params.rois}"
        " {params.normalisation} --out {output.folder:q} --threads {threads}"
        " && python workflow/scripts/checksums.py {output.folder:q} {output.checksums:q})"
        " > {log} 2>&1"
