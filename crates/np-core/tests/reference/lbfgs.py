"""What `torch.optim.LBFGS` does on Rosenbrock's function: the numbers in `tests/second_order.rs`.

    python lbfgs.py        # PyTorch 2.15
"""
import torch

w = torch.tensor([-1.2, 1.0], dtype=torch.float64, requires_grad=True)
lbfgs = torch.optim.LBFGS([w], lr=1, max_iter=20, max_eval=25, history_size=10, line_search_fn="strong_wolfe")
evaluations = 0


def closure():
    global evaluations
    evaluations += 1
    lbfgs.zero_grad()
    loss = (1 - w[0]) ** 2 + 100 * (w[1] - w[0] ** 2) ** 2
    loss.backward()
    return loss


for call in range(2):
    lbfgs.step(closure)
    print(call, evaluations, w.tolist())
