"""What the metrics and their conventions are called; it imports nothing heavy."""

CONVENTIONS = ("pytorch-fid", "tf", "clean")  # how Inception is fed
DISTANCES = ("fid", "kid", "mean_fid", "mean_kid")
METRICS = (*DISTANCES, "psnr", "ssim", "fcn", "labels", "attention", "attention_iou")
KID_ESTIMATORS = ("subsets", "blocks")
MEAN_WEIGHTS = ("equal", "2019-08")
