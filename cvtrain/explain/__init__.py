"""A model and images -> maps, images of filters, and pages."""

# By name alone, so that the command line knows them without the engine; see explain.METHODS.
METHOD_NAMES = (
    *("gradcam", "gradcam++", "hirescam", "layercam", "scorecam", "eigencam", "ablation"),
    *("saliency", "smoothgrad", "integrated-gradients", "occlusion", "rise"),
)
