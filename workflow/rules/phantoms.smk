# Structures whose truth is known: to pre-train on, to tune on, and to simulate acquisitions of.


rule phantoms:
    input:
        own=lambda wildcards: phantoms.own_phantoms(catalogue, wildcards.set),
    output:
        folder=directory("<results>/phantoms/{set}"),
        checksums="<results>/phantoms/{set}.sha256",
    log:
        "<logs>/phantoms/{set}.log",
    benchmark:
        "<benchmarks>/phantoms/{set}.tsv"
    priority: 4
    conda:
        "../../envs/tenet.yaml"
    threads: lambda wildcards: phantoms.phantom_workers(catalogue, wildcards.set, machine.cores)
    resources:
        mem_mb=lambda wildcards, threads: 4000 + 4000 * threads,
        runtime=240,
    params:
        command=lambda wildcards: phantoms.phantom_command(catalogue, wildcards.set),
        settings=lambda wildcards: phantom_settings(catalogue, wildcards.set),
        code=following("phantoms"),
        workers=lambda wildcards, threads: (["--workers", str(threads)] if threads > 1 else []),
    shell:
        "(python -m tenet phantoms {params.command:q} {params.workers:q} --out {output.folder:q}"
        " && python workflow/scripts/checksums.py {output.folder:q} {output.checksums:q})"
        " > {log:q} 2>&1"
