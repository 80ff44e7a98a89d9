import torch

from s2search.measurement.peak_memory import peak_activation_bytes


def test_a_freed_tensor_no_longer_counts():
    x = torch.zeros(1000)

    def call():
        y = x + 1
        z = y.view(10, 100)
        del y
        z = z * 2
        return z * 3

    assert peak_activation_bytes(call, [x]) == 3 * 4000


def test_views_and_in_place_operators_make_nothing():
    x = torch.zeros(1000)
    assert peak_activation_bytes(lambda: x.view(10, 100).t().add_(1), [x, x.view(-1)]) == 4000


def test_weights_are_not_activations():
    x, weight = torch.zeros(2, 10), torch.zeros(10, 5)
    assert peak_activation_bytes(lambda: x @ weight.t().t(), [x]) == x.nbytes + 2 * 5 * 4


def test_what_autograd_saves_counts():
    x = torch.zeros(1000, requires_grad=True)

    def call():
        return x.exp().sin().sum()

    with torch.no_grad():
        inference = peak_activation_bytes(call, [x])
    assert peak_activation_bytes(call, [x]) >= inference


def test_counting_twice_gives_the_same():
    x = torch.zeros(1000)
    counts = {peak_activation_bytes(lambda: torch.softmax(x * 2, 0) + x, [x]) for _ in range(5)}
    assert counts == {12000}
