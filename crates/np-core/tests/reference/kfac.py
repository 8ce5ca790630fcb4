"""K-FAC's first step on a layer of two outputs and two inputs with a bias, by its formulas: the numbers in `tests/second_order.rs`.

    python kfac.py         # numpy 2.4
"""
import numpy as np

x = np.array([[1.0, 0.5], [-0.5, 2.0], [0.25, -1.0]])
e = np.array([[0.3, -0.2], [0.1, 0.4], [-0.5, 0.05]])  # gradients of the mean loss in the outputs
n, damping, kappa, lr = len(x), 1e-2, 1e-3, 0.1
a = np.hstack([x, np.ones((n, 1))])
A, G, V = a.T @ a / n, n * e.T @ e, e.T @ a
pi = np.sqrt((np.trace(A) / 3) / (np.trace(G) / 2))
root = np.sqrt(damping)
U = np.linalg.inv(G + root / pi * np.eye(2)) @ V @ np.linalg.inv(A + pi * root * np.eye(3))
nu = min(1.0, np.sqrt(kappa / (lr**2 * abs((U * V).sum()))))
print("nu", nu)
print("weight", (-lr * nu * U[:, :2]).tolist())
print("bias", (-lr * nu * U[:, 2]).tolist())
