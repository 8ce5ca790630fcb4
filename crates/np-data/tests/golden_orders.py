"""The golden orders of `sample.rs`, computed without Rust: `python3 crates/np-data/tests/golden_orders.py`.

The seed is spread to 256 bits by PCG32 (rand_core's `seed_from_u64`); the key stream is ChaCha with 8 rounds, a 64-bit block
counter and a 64-bit stream, which is purpose * 2**32 + epoch; bounded integers are Lemire's, without bias.
"""

MASK = 0xFFFFFFFF
SUBSET, STRATIFIED, HOLDOUT, EPOCH_ORDER, AUGMENTATION = 1, 2, 3, 4, 5
LABELS = [0, 1, 2, 0, 1, 0] * 50


def rotate(word, count):
    return (word << count | word >> (32 - count)) & MASK


def key(seed):
    words = []
    for _ in range(8):
        seed = (seed * 6364136223846793005 + 11634580027462260723) % 2**64
        words.append(rotate((seed >> 18 ^ seed) >> 27 & MASK, 32 - (seed >> 59)))
    return words


def key_stream(seed, stream, block=0):
    start = [0x61707865, 0x3320646E, 0x79622D32, 0x6B206574, *key(seed), block, 0, stream & MASK, stream >> 32]
    while True:
        x = start[:]

        def quarter(a, b, c, d):
            for e, f, g, count in (a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7):
                x[e] = (x[e] + x[f]) & MASK
                x[g] = rotate(x[g] ^ x[e], count)

        for _ in range(4):
            for i in range(4):
                quarter(i, 4 + i, 8 + i, 12 + i)
            for i in range(4):
                quarter(i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4)
        yield from ((a + b) & MASK for a, b in zip(x, start))
        start[12] += 1


def below(words, bound):
    product = next(words) * bound
    while product & MASK < 2**32 % bound:
        product = next(words) * bound
    return product >> 32


def order(count, seed, purpose, epoch=0):
    words = key_stream(seed, purpose << 32 | epoch)
    values = list(range(count))
    for last in range(count - 1, 0, -1):
        other = below(words, last + 1)
        values[last], values[other] = values[other], values[last]
    return values


def by_quota(quota, values):
    taken = []
    for i in values:
        if quota[LABELS[i]] > 0:
            quota[LABELS[i]] -= 1
            taken.append(i)
    return taken


def view(seed, epoch, index):
    """An image's block of the epoch's stream: rows down, columns right, mirrored."""
    words = key_stream(seed, AUGMENTATION << 32 | epoch, index)
    return below(words, 9) - 4, below(words, 9) - 4, next(words) >> 31 == 1


print("subset 41          ", order(60_000, 41, SUBSET)[:10])
print("subset 42          ", order(60_000, 42, SUBSET)[:10])
print("epoch_order 41, 0  ", order(60_000, 41, EPOCH_ORDER, 0)[:10])
print("epoch_order 41, 1  ", order(60_000, 41, EPOCH_ORDER, 1)[:10])
print("stratified 41, 0.5 ", by_quota([75, 50, 25], order(300, 41, STRATIFIED))[:10])
print("holdout 41, 0.1    ", sorted(by_quota([15, 10, 5], order(300, 41, HOLDOUT)))[:10])
print("views 41, 2        ", [view(41, 2, index) for index in (0, 1, 2, 49_999)])
