# The model of every microscope that comes with TENET: phantoms, training and calibration are those
# of the other rules; here is its folder, ready to be copied to tenet/models/.


rule package_model:
    input:
        model="<results>/models/box/model.pt",
        one_photon="<results>/models/box_one_photon/model.pt",
        files=expand(
            "<results>/models/{model}/{file}",
            model=["box", "box_one_photon"],
            file=[
                "experiment.json",
                "provenance.json",
                "threshold.json",
                "fisher.pt",
                "history.csv",
            ],
        ),
    output:
        folder=directory("<results>/model/box"),
    log:
        "<logs>/package_model/box.log",
    benchmark:
        "<benchmarks>/package_model/box.tsv"
    conda:
        "../../envs/tenet.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        model=subpath(input.model, parent=True),
        one_photon=subpath(input.one_photon, parent=True),
        trained_by=following("pretrain"),
        code=following("package_model"),
    shell:
        "python workflow/scripts/package_model.py {params.model:q} --one-photon {params.one_photon:q}"
        " --out {output.folder:q} --code {params.trained_by:q} > {log:q} 2>&1"
