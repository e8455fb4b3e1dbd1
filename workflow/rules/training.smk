# Pre-training on phantoms, and fine-tuning on raw stacks; they start early, as most waits for them.
# An interrupted training goes on where it was: its checkpoint is no declared output, so that
# Snakemake leaves it alone.


rule pretrain:
    input:
        experiment=lambda wildcards: own_settings(wildcards.model),
        phantoms=lambda wildcards: training_set(wildcards.model, "phantoms"),
        tuning=lambda wildcards: training_set(wildcards.model, "tuning"),
    output:
        model="<results>/models/{model}/model.pt",
        experiment="<results>/models/{model}/experiment.json",
        provenance=report(
            "<results>/models/{model}/provenance.json",
            category="Provenance",
            labels={"model": "{model}"},
        ),
        history="<results>/models/{model}/history.csv",
        threshold="<results>/models/{model}/threshold.json",
        psf="<results>/models/{model}/psf.csv",
        optimiser="<results>/models/{model}/optimiser.pt",
        fisher="<results>/models/{model}/fisher.pt",
    log:
        "<logs>/pretrain/{model}.log",
    benchmark:
        "<benchmarks>/pretrain/{model}.tsv"
    priority: 3
    conda:
        "../../envs/tenet.yaml"
    threads: TRAINING_THREADS
    resources:
        mem_mb=16000,
        runtime=1440,
        gpu=1,
    params:
        seed=config["seed"],
        settings=lambda wildcards: settings(experiment_name(wildcards.model), "pretrain"),
        code=code("pretrain"),
        experiment=lambda wildcards, input: experiment_argument(wildcards.model, input.experiment),
        phantoms=lambda wildcards, input: without_suffix(input.phantoms),
        tuning=lambda wildcards, input: without_suffix(input.tuning),
        out=subpath(output.model, parent=True),
    shell:
        "python workflow/scripts/on_device.py {resources.gpu}"
        " python -m tenet pretrain {params.experiment:q}"
        " --phantoms {params.phantoms:q} --tuning {params.tuning:q} --out {params.out:q}"
        " --seed {params.seed:q} --threads {threads} > {log:q} 2>&1"


# A pre-trained model and the network that aligns planes before its encoder.
rule align:
    input:
        pretrained=lambda wildcards: [
            f"<results>/models/{pretrained_of(wildcards.model)}/{file}"
            for file in ("model.pt", "experiment.json", "optimiser.pt", "fisher.pt", "history.csv")
        ],
        phantoms=lambda wildcards: training_set(wildcards.model, "phantoms"),
        tuning=lambda wildcards: training_set(wildcards.model, "tuning"),
    output:
        model="<results>/models/{model}/model.pt",
        experiment="<results>/models/{model}/experiment.json",
        provenance="<results>/models/{model}/provenance.json",
        history="<results>/models/{model}/history.csv",
        alignment="<results>/models/{model}/alignment/history.csv",
        threshold="<results>/models/{model}/threshold.json",
        psf="<results>/models/{model}/psf.csv",
        optimiser="<results>/models/{model}/optimiser.pt",
        fisher="<results>/models/{model}/fisher.pt",
    log:
        "<logs>/align/{model}.log",
    benchmark:
        "<benchmarks>/align/{model}.tsv"
    wildcard_constraints:
        model=names(ALIGNED),
    priority: 3
    conda:
        "../../envs/tenet.yaml"
    threads: TRAINING_THREADS
    resources:
        mem_mb=16000,
        runtime=1440,
        gpu=1,
    params:
        seed=config["seed"],
        settings=lambda wildcards: settings(wildcards.model, "align"),
        code=code("align"),
        overlays=OVERLAYS,
        pretrained=lambda wildcards, input: str(Path(input.pretrained[0]).parent),
        phantoms=lambda wildcards, input: without_suffix(input.phantoms),
        tuning=lambda wildcards, input: without_suffix(input.tuning),
        out=subpath(output.model, parent=True),
    shell:
        "python workflow/scripts/on_device.py {resources.gpu}"
        " python -m tenet align {wildcards.model:q} {params.overlays:q}"
        " --pretrained {params.pretrained:q} --phantoms {params.phantoms:q}"
        " --tuning {params.tuning:q} --out {params.out:q}"
        " --seed {params.seed:q} --threads {threads} > {log:q} 2>&1"


ruleorder: align > pretrain


rule finetune:
    input:
        experiment=lambda wildcards: own_settings(wildcards.experiment),
        data=finetune_data,
        checked=lambda wildcards: sample_record(wildcards.experiment),
        rois=lambda wildcards: (
            [] if sample_of(wildcards.experiment) else rois(wildcards.experiment)
        ),
        pretrained=lambda wildcards: [
            f"<results>/models/{pretrained_of(wildcards.experiment)}/{file}"
            for file in (
                "model.pt",
                "experiment.json",
                "optimiser.pt",
                "fisher.pt",
                "threshold.json",
            )
        ],
        phantoms=lambda wildcards: training_set(pretrained_of(wildcards.experiment), "phantoms"),
        tuning=lambda wildcards: training_set(pretrained_of(wildcards.experiment), "tuning"),
    output:
        model="<results>/models/{experiment}/{fold}/model.pt",
        experiment="<results>/models/{experiment}/{fold}/experiment.json",
        provenance="<results>/models/{experiment}/{fold}/provenance.json",
        history="<results>/models/{experiment}/{fold}/history.csv",
        threshold="<results>/models/{experiment}/{fold}/threshold.json",
        psf="<results>/models/{experiment}/{fold}/psf.csv",
    log:
        "<logs>/finetune/{experiment}/{fold}.log",
    benchmark:
        "<benchmarks>/finetune/{experiment}/{fold}.tsv"
    priority: 2
    conda:
        "../../envs/tenet.yaml"
    threads: TRAINING_THREADS
    resources:
        mem_mb=16000,
        runtime=1440,
        gpu=1,
    params:
        seed=config["seed"],
        settings=lambda wildcards: settings(experiment_name(wildcards.experiment), "finetune"),
        code=code("finetune"),
        train=lambda wildcards: train_option(wildcards.experiment),
        reading=lambda wildcards: reading_options(sample_of(wildcards.experiment) or {}),
        experiment=lambda wildcards, input: experiment_argument(
            wildcards.experiment, input.experiment
        ),
        data=finetune_options,
        pretrained=lambda wildcards, input: str(Path(input.pretrained[0]).parent),
        phantoms=lambda wildcards, input: without_suffix(input.phantoms),
        tuning=lambda wildcards, input: without_suffix(input.tuning),
        out=subpath(output.model, parent=True),
    shell:
        "python workflow/scripts/on_device.py {resources.gpu}"
        " python -m tenet finetune {params.experiment:q} {params.train:q} {params.data:q}"
        " --pretrained {params.pretrained:q} --phantoms {params.phantoms:q}"
        " --tuning {params.tuning:q} --out {params.out:q}"
        " --seed {params.seed:q} --threads {threads} > {log:q} 2>&1"
