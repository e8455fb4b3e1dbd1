"""How many voxels stacks have, and how many bytes results take, by hand."""

from workflow.lib import sizes


def test_stacks_of_the_record(paper):
    neurons = sizes.stacks_of(paper, "fig4_neurons")
    assert (neurons.count, neurons.zyx_shape) == (27, (111, 1024, 1024))
    assert sizes.fine_voxels(paper, "fig4_neurons") == 27 * 333 * 1024**2


def test_beads_are_the_images_of_a_fold(paper):
    assert sizes.stacks_of(paper, "fig3_beads", "fold0").count == 3  # images 0, 4 and 5
    assert sizes.stacks_of(paper, "supp_mrf", "fold0").count == 3
    every = sizes.stacks_of(paper, "fig3_beads").count
    assert sizes.stacks_of(paper, "fig3_beads", "fold0").count < every <= 31


def test_simulated_stacks_have_the_phantoms_size_with_and_without_noise(paper, demo):
    stacks = sizes.stacks_of(paper, "fig2_phantoms")
    assert (stacks.count, stacks.zyx_shape) == (2 * 16, (400, 500, 500))
    assert sizes.stacks_of(paper, "fig2_angle45").count == 2 * 3  # a volume a seed
    assert sizes.stacks_of(paper, "fig2_angle45").zyx_shape == (300, 900, 900)
    assert sizes.stacks_of(paper, "supp_motion_none").count == 16
    assert sizes.stacks_of(demo, "fig4_neurons").zyx_shape == (40, 144, 144)


def test_phantoms(paper):
    assert sizes.phantoms_of_set(paper, "training").count == 20
    assert sizes.phantoms_of_set(paper, "tuning").voxels == 4 * 240**3


def test_results_have_two_channels_or_one(paper):
    tenet = sizes.bytes_of_predictions(paper, "fig4_neurons", "tenet")
    assert tenet == 2 * sizes.bytes_of_predictions(paper, "fig4_neurons", "care")
    voxels = sizes.fine_voxels(paper, "fig4_neurons")
    assert tenet == 2 * voxels * sizes.RESULT_BYTES / sizes.COMPRESSION


def test_raw_stacks(paper):
    assert sizes.bytes_of_source("microglia") == 66 * 2 * 26 * 1972**2 * 2
    assert sizes.bytes_of_acquisitions(paper, "fig2_phantoms") == 32 * 400 * 500**2 * 2
