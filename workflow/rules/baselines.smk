# Methods to compare TENET with, on the same stacks and phantoms, with the same nominal microscope:
# Richardson-Lucy with total variation (tuned, and as the paper had it), CARE and Neuroclear.


rule rltv_tune:
    input:
        model="<results>/models/{model}/model.pt",
        experiment="<results>/models/{model}/experiment.json",
        tuning=lambda wildcards: models.training_set(catalogue, wildcards.model, "tuning"),
    output:
        settings="<results>/baselines/rltv/{model}.json",
    log:
        "<logs>/rltv_tune/{model}.log",
    benchmark:
        "<benchmarks>/rltv_tune/{model}.tsv"
    conda:
        "../../envs/tenet.yaml"
    threads: machine.inference_threads
    resources:
        mem_mb=16000,
        runtime=480,
        gpu=1,
    params:
        seed=config["seed"],
        code=following("rltv"),
        grid=repeated("--iterations", config["rltv"]["iterations"])
        + repeated("--tv-weight", config["rltv"]["tv_weights"]),
        model=subpath(input.model, parent=True),
        tuning=lambda wildcards, input: without_suffix(input.tuning),
    shell:
        "python workflow/scripts/on_device.py {resources.gpu}"
        " python -m tenet rltv tune --model {params.model:q} --phantoms {params.tuning:q}"
        " {params.grid:q} --out {output.settings:q} --seed {params.seed:q} --threads {threads} > {log:q} 2>&1"


rule rltv:
    input:
        model=lambda wildcards: models.pretrained_file(catalogue, wildcards.experiment, "model.pt"),
        experiment=lambda wildcards: models.pretrained_file(
            catalogue, wildcards.experiment, "experiment.json"
        ),
        levels=lambda wildcards: models.pretrained_file(
            catalogue, wildcards.experiment, "threshold.json"
        ),
        settings=lambda wildcards: models.rltv_settings(catalogue, wildcards.experiment),
        data=lambda wildcards: stacks.acquisitions(catalogue, wildcards.experiment),
        rois=lambda wildcards: stacks.rois(catalogue, wildcards.experiment),
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
    threads: machine.inference_threads
    resources:
        mem_mb=24000,
        runtime=720,
        gpu=1,
    params:
        normalisation=lambda wildcards: models.normalisation(catalogue, wildcards.experiment),
        variant=lambda wildcards: ["--paper"] if wildcards.method == "rltv_paper" else [],
        code=following("rltv"),
        model=subpath(input.model, parent=True),
        data=lambda wildcards, input: stacks.stack_folder(
            catalogue, wildcards.experiment, input.data
        ),
        rois=lambda wildcards, input: stacks.image_options(
            catalogue, wildcards.experiment, input.data
        ),
        levels=lambda wildcards: models.level_options(
            catalogue, wildcards.experiment, wildcards.method
        ),
    shell:
        "(python workflow/scripts/on_device.py {resources.gpu}"
        " python -m tenet rltv run {params.variant:q} --model {params.model:q}"
        " --settings {input.settings:q} --data {params.data:q} {params.rois:q}"
        " {params.normalisation:q} {params.levels:q} --out {output.folder:q} --threads {threads}"
        " && python workflow/scripts/checksums.py {output.folder:q} {output.checksums:q})"
        " > {log:q} 2>&1"


rule baseline_train:
    input:
        model=lambda wildcards: models.pretrained_files(
            catalogue, wildcards.experiment, "model.pt", "experiment.json", "threshold.json"
        ),
        data=lambda wildcards: stacks.acquisitions(catalogue, wildcards.experiment),
        rois=lambda wildcards: stacks.rois(catalogue, wildcards.experiment),
        tuning=lambda wildcards: models.training_set(
            catalogue, models.pretrained_of(catalogue, wildcards.experiment), "tuning"
        ),
    output:
        model="<results>/baselines/{method}/{experiment}/{fold}/model.pt",
        settings="<results>/baselines/{method}/{experiment}/{fold}/settings.json",
        history="<results>/baselines/{method}/{experiment}/{fold}/history.csv",
    log:
        "<logs>/baseline_train/{method}/{experiment}/{fold}.log",
    benchmark:
        "<benchmarks>/baseline_train/{method}/{experiment}/{fold}.tsv"
    wildcard_constraints:
        method="care|neuroclear",
    priority: 2
    conda:
        "../../envs/tenet.yaml"
    threads: machine.training_threads
    resources:
        mem_mb=16000,
        runtime=1440,
        gpu=1,
    params:
        seed=config["seed"],
        code=lambda wildcards: code(ROOT, wildcards.method),
        settings=lambda wildcards: assignments(config[wildcards.method]),
        normalisation=lambda wildcards: models.normalisation(catalogue, wildcards.experiment),
        model=lambda wildcards, input: str(Path(input.model[0]).parent),
        tuning=lambda wildcards, input: without_suffix(input.tuning),
        data=lambda wildcards, input: stacks.noisy_folder(
            catalogue, wildcards.experiment, input.data
        ),
        rois=lambda wildcards, input: stacks.image_options(
            catalogue, wildcards.experiment, input.data, wildcards.fold
        ),
        held_out=lambda wildcards: models.test_image_options(catalogue, wildcards.experiment),
        out=subpath(output.model, parent=True),
    shell:
        "python workflow/scripts/on_device.py {resources.gpu}"
        " python -m tenet baseline train {wildcards.method:q} --model {params.model:q}"
        " --data {params.data:q} {params.rois:q} {params.held_out:q} {params.normalisation:q}"
        " --tuning {params.tuning:q}"
        " {params.settings:q} --out {params.out:q} --seed {params.seed:q} --threads {threads}"
        " > {log:q} 2>&1"


rule baseline:
    input:
        model=lambda wildcards: models.trained_baseline(
            catalogue, wildcards.experiment, wildcards.method, wildcards.fold
        ),
        pretrained=lambda wildcards: models.pretrained_files(
            catalogue, wildcards.experiment, "model.pt", "experiment.json", "threshold.json"
        ),
        data=lambda wildcards: stacks.acquisitions(catalogue, wildcards.experiment),
        rois=lambda wildcards: stacks.rois(catalogue, wildcards.experiment),
    output:
        folder=directory("<results>/predictions/{experiment}/{method}{fold}"),
        checksums="<results>/predictions/{experiment}/{method}{fold}.sha256",
    log:
        "<logs>/baseline/{experiment}/{method}{fold}.log",
    benchmark:
        "<benchmarks>/baseline/{experiment}/{method}{fold}.tsv"
    wildcard_constraints:
        method="care|neuroclear",
        fold="(/all|/fold[0-9]+)?",
    conda:
        "../../envs/tenet.yaml"
    threads: machine.inference_threads
    resources:
        mem_mb=16000,
        runtime=480,
        gpu=1,
    params:
        code=lambda wildcards: code(ROOT, wildcards.method),
        model=lambda wildcards, input: str(Path(input.model[0]).parent),
        pretrained=lambda wildcards, input: str(Path(input.pretrained[0]).parent),
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
        " python -m tenet baseline run {wildcards.method:q} --model {params.model:q}"
        " --pretrained {params.pretrained:q} --data {params.data:q} {params.rois:q}"
        " {params.levels:q} --out {output.folder:q} --threads {threads}"
        " && python workflow/scripts/checksums.py {output.folder:q} {output.checksums:q})"
        " > {log:q} 2>&1"
