"""The comparison of a reader's model with what Shardsmith computed."""

import torch

# Of the largest logit.
EXACT = 1e-3
# Where the reader itself computes in half precision, whatever dtype is asked of it.
HALF = 2e-2


def compare(case, model, tolerance, weights=None):
    """Weights equal to ours, once both are rounded to the reader's dtype; logits within `tolerance`."""
    model.eval()
    if weights is not None:
        compared = 0
        for name, weight in weights(model):
            ours = case["weights"][name].to(weight.dtype).to(torch.float32)
            assert torch.equal(weight.float(), ours), f"{name}: weights differ by {(weight.float() - ours).abs().max()}"
            compared += 1
        assert compared == len(case["weights"]), f"{compared} packed linears instead of {len(case['weights'])}"
    logits = model(case["tokens"]).logits[0].float()
    difference = ((logits - case["logits"]).abs().max() / case["logits"].abs().max()).item()
    assert difference <= tolerance, f"logits differ by {difference:.1e} of the largest, more than {tolerance:.0e}"
    return f"{len(case['weights'])} weights equal, " * (weights is not None) + f"logits within {difference:.1e}"
